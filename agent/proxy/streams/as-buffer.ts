/** The same bytes as a Buffer. Bun's sockets give Buffers already; a view costs more than all that is asked of it. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
