/** How TLS with what is outside of the mesh is spoken, to servers and, where it is inspected, to programs. */
export const OUTSIDE_TLS = {
  /** TLS 1.2; Bun wants the number. */
  minVersion: 0x0303,
  /** For a handshake, with TCP below it where we connect. */
  timeoutMs: 10_000,
} as const;
