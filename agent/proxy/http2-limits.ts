/** Bounds of one HTTP/2 connection. */
export const HTTP2_LIMITS = {
  /** One header block, and what its fields have together (RFC 9113 10.5.1). */
  blockBytes: 64 * 1024,
  /** CONTINUATION frames of one block, empty ones too. */
  continuations: 16,
  fields: 256,
  /** Streams that were reset in a second, by either side or by us. Programs that give up many calls at once, as gRPC's do, stay far below. */
  resetsPerSecond: 2000,
  /** Requests that are under way; the application may want fewer. */
  openStreams: 4096,
  /** The heads of those together. */
  openHeadBytes: 4 * 1024 * 1024,
  /** Streams that we ended and the other side has not: of older ones it is forgotten, which harms their own connection alone. */
  endedStreams: 1000,
  /** Requests that are read before others get their turn. */
  requestsInATurn: 128,
  /** Frames of ours that wait for the end of a frame which passes in pieces. */
  waitingBytes: 64 * 1024,
} as const;
