/** Where a connection stands among traces. */
export interface ConnectionTrace {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** Of the calling side's span, 16 lower-case hexadecimal digits. */
  readonly callingSpanId: string;
}

/**
 * The trace of a connection, from its id, a UUID: both hosts come to the same, decide alike whether it is recorded, and the called side knows the span above its own, though
 * nothing of a trace is said on the way. Whoever has a record finds the trace by its digits.
 */
export function traceOfConnection(connectionId: string): ConnectionTrace {
  const traceId = connectionId.replaceAll('-', '');
  return { traceId, callingSpanId: traceId.slice(16) };
}
