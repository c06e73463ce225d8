import { PicketError } from '../errors/errors.ts';
import { COLON, CR, isFieldText, LF, TOKEN_BYTES } from './http1-syntax.ts';

/** Which request an answer belongs to, as far as its framing depends on it. */
export interface AnsweredRequest {
  readonly isHead: boolean;
  readonly wantsUpgrade: boolean;
}

/**
 * How the bytes after a response head are framed (RFC 9112 6.3): a number of bytes, chunks, everything until the end of the connection,
 * nothing because another head for the same request follows (1xx), or another protocol from here on (101).
 */
export type ResponseFraming =
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' | 'until_close' | 'interim' | 'upgraded' };

const CONTENT_LENGTH = /^[0-9]{1,15}$/;
const EMPTY: ResponseFraming = { kind: 'length', bytes: 0 };
const CONNECTION_FIELDS = /^(?:connection|keep-alive):/i;
const STATUS_LINE = /^HTTP\/1\.[01] ([1-9][0-9]{2})(?: (.*))?$/;

/**
 * The framing of the response head in `bytes` from `start` to `end` (after its empty line). The head itself passes as it is. Throws
 * `invalid_argument`, reason `http1_response_refused`, where the framing is in doubt.
 */
export function parseResponseHead(
  bytes: Buffer,
  range: { readonly start: number; readonly end: number },
  request: AnsweredRequest,
): ResponseFraming {
  const lineEnd = bytes.indexOf(LF, range.start);
  const match = STATUS_LINE.exec(bytes.toString('latin1', range.start, lineEnd - 1));
  if (match === null || !isFieldText(match[2] ?? '') || bytes[lineEnd - 1] !== CR)
    throw refused('the status line is not valid');
  const status = Number(match[1]);
  const { contentLength, isChunked } = readFramingFields(bytes, lineEnd + 1, range.end - 2);
  if (status === 101) {
    if (!request.wantsUpgrade) throw refused('101 was not asked for');
    return { kind: 'upgraded' };
  }
  if (status < 200) return { kind: 'interim' };
  if (request.isHead || status === 204 || status === 304) return EMPTY;
  if (isChunked) return { kind: 'chunked' };
  return contentLength < 0 ? { kind: 'until_close' } : { kind: 'length', bytes: contentLength };
}

/** A response head that says that the connection ends after the response (RFC 9112 9.6), and nothing else of the connection. The head is one that was parsed. */
export function announceClose(head: Buffer): Buffer {
  const lines = head.toString('latin1').split('\r\n');
  const kept = lines.filter((line) => !CONNECTION_FIELDS.test(line));
  kept.splice(-2, 0, 'Connection: close');
  return Buffer.from(kept.join('\r\n'), 'latin1');
}

function readFramingFields(
  bytes: Buffer,
  start: number,
  end: number,
): { readonly contentLength: number; readonly isChunked: boolean } {
  let contentLength = -1;
  let isChunked = false;
  if (bytes.subarray(start, end).includes(0)) throw refused('a field holds a NUL');
  for (let at = start; at < end;) {
    const lineEnd = bytes.indexOf(LF, at);
    const colon = findColon(bytes, at);
    // A CR elsewhere ends a line for some clients.
    if (bytes.indexOf(CR, at) !== lineEnd - 1 || colon < 0) throw refused('a field line is not valid');
    const name = isFramingLength(colon - at) ? bytes.toString('latin1', at, colon).toLowerCase() : '';
    const value = name === '' ? '' : bytes.toString('latin1', colon + 1, lineEnd - 1).trim();
    if (name === 'content-length') contentLength = requireLength(value, contentLength);
    else if (name === 'transfer-encoding') isChunked = requireChunked(value, isChunked);
    at = lineEnd + 1;
  }
  if (isChunked && contentLength >= 0) throw refused('Content-Length and Transfer-Encoding');
  return { contentLength, isChunked };
}

/** Only two names matter; the others are not even made a string. */
function isFramingLength(nameLength: number): boolean {
  return nameLength === 'content-length'.length || nameLength === 'transfer-encoding'.length;
}

function findColon(bytes: Buffer, start: number): number {
  let at = start;
  while (TOKEN_BYTES[bytes[at] ?? 0] !== 0) at++;
  return at > start && bytes[at] === COLON ? at : -1;
}

function requireLength(value: string, before: number): number {
  if (!CONTENT_LENGTH.test(value)) throw refused('Content-Length is not a plain number');
  if (before >= 0 && before !== Number(value)) throw refused('Content-Length stands twice');
  return Number(value);
}

function requireChunked(value: string, before: boolean): boolean {
  if (before || value.toLowerCase() !== 'chunked') throw refused('Transfer-Encoding is not chunked');
  return true;
}

function refused(why: string): PicketError {
  return new PicketError('invalid_argument', 'http1_response_refused', `Cannot relay the response: ${why}`);
}
