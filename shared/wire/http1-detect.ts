import { CR, LF, TOKEN_BYTES } from './http1-syntax.ts';
import {
  CLIENT_PREFACE,
  FRAME,
  FRAME_HEADER_BYTES,
  readFrameHeader,
  type FrameHeader,
} from './http2-frame.ts';
import { isSettingsLength } from './http2-settings.ts';

/** What the first bytes of a connection are. `incomplete`: more of them are needed. */
export type FirstBytes = 'http1' | 'http2' | 'other' | 'incomplete';

/** First lines longer than this are taken for HTTP, whose parser then refuses them. */
const MAX_FIRST_LINE_BYTES = 8 * 1024;
const SLASH = 47;

/**
 * Whether a client speaks HTTP/1, or HTTP/2 with prior knowledge. Everything that some server may read as a request counts, however sloppy (leading blanks, odd white space,
 * HTTP/0.9), so that nobody slips past the decision for each request by misspelling it: the strict parser then refuses it.
 */
export function classifyFirstBytes(bytes: Buffer): FirstBytes {
  const preface = comparePreface(bytes);
  if (preface !== 'no') return preface === 'whole' ? 'http2' : 'incomplete';
  let at = skipBlank(bytes, 0, true);
  const method = at;
  while (at < bytes.length && TOKEN_BYTES[bytes[at] ?? 0] !== 0) at++;
  if (at === bytes.length) return unfinished(bytes);
  if (at === method || bytes[at] === LF) return 'other';
  const end = at;
  at = skipSeparator(bytes, at);
  if (at === bytes.length) return unfinished(bytes);
  if (at === end) return 'other';
  return bytes[at] === SLASH ? 'http1' : classifyLine(bytes, at);
}

/** No server of another protocol waits for so much before it knows one of its own. */
function unfinished(bytes: Buffer): FirstBytes {
  return bytes.length > MAX_FIRST_LINE_BYTES ? 'http1' : 'incomplete';
}

/** Which HTTP a client speaks of which it is known that it speaks one. */
export function classifyHttp(bytes: Buffer): 'http1' | 'http2' | 'incomplete' {
  const preface = bytes.length === 0 ? 'part' : comparePreface(bytes);
  if (preface === 'no') return 'http1';
  return preface === 'whole' ? 'http2' : 'incomplete';
}

/** Whether what an application says before anybody asks it is the beginning of a server's part in HTTP/2: SETTINGS, which it need not wait with (RFC 9113 3.4). */
export function isHttp2Server(spoken: Buffer): boolean {
  if (spoken.length < FRAME_HEADER_BYTES) return false;
  const header: FrameHeader = { length: 0, type: 0, flags: 0, streamId: 0 };
  readFrameHeader(spoken, 0, header);
  const { length, type, flags, streamId } = header;
  return type === FRAME.settings && flags === 0 && streamId === 0 && isSettingsLength(length);
}

/** Whether bytes begin with the preface of HTTP/2, or are a part of it. */
function comparePreface(bytes: Buffer): 'whole' | 'part' | 'no' {
  const length = Math.min(bytes.length, CLIENT_PREFACE.length);
  if (bytes.compare(CLIENT_PREFACE, 0, length, 0, length) !== 0) return 'no';
  return length === CLIENT_PREFACE.length ? 'whole' : 'part';
}

/** The rest of a first line that begins with a word and blanks: HTTP if it names a version or an http URL. */
function classifyLine(bytes: Buffer, at: number): FirstBytes {
  const lf = bytes.indexOf(LF, at);
  const line = bytes.toString('latin1', at, lf < 0 ? bytes.length : lf).toLowerCase();
  if (line.includes('http/') || /^https?:/.test(line)) return 'http1';
  return lf >= 0 ? 'other' : unfinished(bytes);
}

/** Behind blanks and CRs of which none ends a line: there are programs that split a request line at those, too. */
function skipSeparator(bytes: Buffer, start: number): number {
  let at = start;
  while (at < bytes.length && (isBlank(bytes[at] ?? 0) || (bytes[at] === CR && bytes[at + 1] !== LF))) at++;
  return at;
}

function skipBlank(bytes: Buffer, start: number, alsoLines: boolean): number {
  let at = start;
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    if (!isBlank(byte) && !(alsoLines && (byte === CR || byte === LF))) break;
    at++;
  }
  return at;
}

/** White space by the widest reading in use: Python splits a request line at all of these. */
function isBlank(byte: number): boolean {
  return (
    byte === 0x20 ||
    byte === 0x09 ||
    byte === 0x0b ||
    byte === 0x0c ||
    (byte >= 0x1c && byte <= 0x1f) ||
    byte === 0x85 ||
    byte === 0xa0
  );
}
