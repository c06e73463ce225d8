/** Bounds of one HBONE connection. */
export const HBONE_LIMITS = {
  /** Streams that a peer may have open, those included that it gave up before they were decided, and those whose denial it cannot have read. As many as ztunnel takes. */
  openStreams: 200,
  /** Streams that we open on one connection, whatever more the peer takes. As ztunnel does. */
  ownStreams: 100,
  /** What a peer may send on one stream before we have taken it. */
  streamWindowBytes: 256 * 1024,
  /** And on all of them together: so much a connection may hold whose applications do not read. */
  connectionWindowBytes: 16 * 1024 * 1024,
  /** The longest DATA frame that we send, where the peer takes it. */
  sendFrameBytes: 64 * 1024,
  /** Answers of ours (to PING, SETTINGS, refused streams) that may wait for a peer that does not read. */
  backlogBytes: 256 * 1024,
  /** Frames in a second that carry nothing: SETTINGS, PING, PRIORITY, empty DATA, unknown ones, crumbs of a window (CVE-2019-9511, 9512, 9515, 9518). */
  idleFramesPerSecond: 1000,
  /** A window that grows by less, while bytes wait for it, grows by a crumb. */
  crumbBytes: 1024,
  /** Of a request or an answer, as SETTINGS_MAX_HEADER_LIST_SIZE counts. */
  headBytes: 16 * 1024,
  /** Fields of one head. */
  fields: 128,
  /** Interim answers (1xx) of a peer before its answer. */
  interimAnswers: 8,
  /** After so long a silence a peer is asked for a sign of life, in milliseconds. */
  pingAfterMs: 10_000,
  /** After so long a silence it counts as gone. */
  silenceMs: 20_000,
  /** How long a peer that was told to open nothing more may take to have heard of it. */
  graceMs: 1000,
} as const;
