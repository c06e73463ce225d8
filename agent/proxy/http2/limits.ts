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
  /** What of them every connection has beside its party's share of what all connections have. */
  freeHeadBytes: 64 * 1024,
  /**
   * Streams that we ended, or the application, and the client has not: as many as may be open, which are cut together where their policy changes. What it sends on older ones is
   * answered with STREAM_CLOSED, and trailers end the connection, which harms it alone.
   */
  endedStreams: 4096,
  /** Settings of a client, about, that we do not know and that the application is to hear with its greeting. */
  unknownSettings: 32,
  /** How long the end of a cut stream may wait for a frame of the client that goes on, in milliseconds. */
  cutMs: 5000,
  /** Requests that are read before others get their turn. */
  requestsInATurn: 128,
  /** Frames of ours that wait for the end of a frame which passes in pieces. */
  waitingBytes: 64 * 1024,
} as const;
