import type { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';
import { invalidStructure } from './tpm2-algorithms.ts';

/** Reads a TPM2B: a 16-bit size and that many bytes, at most `maxBytes`. A view, not a copy. */
export function readSized(reader: ByteReader, maxBytes: number): Uint8Array {
  const size = reader.u16();
  if (size > maxBytes) throw invalidStructure(`buffer of ${size} bytes: at most ${maxBytes} are expected`);
  return reader.bytes(size);
}

/** A TPM2B of the bytes. */
export function buildSized(bytes: Uint8Array): Uint8Array {
  return new ByteWriter().u16(bytes.length).bytes(bytes).toBytes();
}

/** Big-endian number padded with zeros in front to `length` bytes: some TPMs drop leading zeros of coordinates. */
export function padStart(number: Uint8Array, length: number): Uint8Array {
  if (number.length === length) return number;
  if (number.length > length)
    throw invalidStructure(`number of ${number.length} bytes: ${length} are expected`);
  const padded = new Uint8Array(length);
  padded.set(number, length - number.length);
  return padded;
}
