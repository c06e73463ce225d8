/**
 * A second reader of HTTP/1.1, as careless as readers in use are: bare LF ends a line, white space is trimmed wherever it stands, numbers end
 * where they stop being numbers, Transfer-Encoding wins over Content-Length. What our strict parser lets through must read the same here.
 */
export interface SloppyMessage {
  readonly firstLine: readonly string[];
  /** Lower-case names with underscores as dashes, values in order. */
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** Offsets in the bytes read: of the body's first byte, and behind its last. */
  readonly bodyStart: number;
  readonly end: number;
}

/** Whose messages: a request without Content-Length and Transfer-Encoding has no body, and an underscore may stand for a dash. */
export type SloppyKind = 'request' | 'response';

/** The messages that are complete in `bytes`. */
export function readSloppily(bytes: Buffer, kind: SloppyKind = 'request'): readonly SloppyMessage[] {
  const messages: SloppyMessage[] = [];
  for (let at = 0; at < bytes.length;) {
    const message = readMessage(bytes, at, kind);
    if (message === undefined) break;
    messages.push(message);
    at = message.end;
  }
  return messages;
}

/** The end of a chunked body that begins at `start`, its trailers included; undefined while it is not complete. */
export function endOfSloppyChunks(bytes: Buffer, start: number): number | undefined {
  for (let at = start; ;) {
    const line = readLine(bytes, at);
    if (line === undefined) return undefined;
    const size = Number.parseInt(line.text.trim(), 16);
    if (!(size > 0)) return endOfLines(bytes, line.next);
    const after = line.next + size;
    const ending = readLine(bytes, after);
    if (ending === undefined) return undefined;
    at = ending.next;
  }
}

function readMessage(bytes: Buffer, start: number, kind: SloppyKind): SloppyMessage | undefined {
  const first = readLine(bytes, start);
  const bodyStart = first === undefined ? undefined : endOfLines(bytes, first.next);
  if (first === undefined || bodyStart === undefined) return undefined;
  const fields = bytes
    .toString('latin1', first.next, bodyStart)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => readField(line, kind));
  const end = endOfBody(bytes, bodyStart, { fields, kind });
  if (end === undefined || end > bytes.length) return undefined;
  return { firstLine: first.text.trim().split(/\s+/), fields, bodyStart, end };
}

function endOfBody(
  bytes: Buffer,
  start: number,
  { fields, kind }: { readonly fields: SloppyMessage['fields']; readonly kind: SloppyKind },
): number | undefined {
  const valueOf = (wanted: string): string | undefined => fields.find(([name]) => name === wanted)?.[1];
  if (valueOf('transfer-encoding')?.toLowerCase().includes('chunked') === true)
    return endOfSloppyChunks(bytes, start);
  const length = valueOf('content-length');
  if (length !== undefined) return start + Number.parseInt(length, 10);
  return kind === 'request' ? start : bytes.length;
}

function readField(line: string, kind: SloppyKind): readonly [string, string] {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const plain = name.trim().toLowerCase();
  return [
    kind === 'request' ? plain.replaceAll('_', '-') : plain,
    colon < 0 ? '' : line.slice(colon + 1).trim(),
  ];
}

/** Behind the first empty line at or after `start`. */
function endOfLines(bytes: Buffer, start: number): number | undefined {
  for (let at = start; ;) {
    const line = readLine(bytes, at);
    if (line === undefined) return undefined;
    if (line.text.trim() === '') return line.next;
    at = line.next;
  }
}

function readLine(
  bytes: Buffer,
  start: number,
): { readonly text: string; readonly next: number } | undefined {
  const lf = bytes.indexOf(0x0a, start);
  return lf < 0 ? undefined : { text: bytes.toString('latin1', start, lf), next: lf + 1 };
}
