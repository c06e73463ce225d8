/** Characters of HTTP/1.1 (RFC 9110 5.6.2, 5.5; RFC 9112 3.2), as tables by byte. Every table gives 0 for what may not stand there. */

const TOKENS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";

/** For a byte of a token its lower-case form. */
export const TOKEN_BYTES = tableOf((byte) => {
  const lower = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
  return byte < 0x80 && TOKENS.includes(String.fromCharCode(lower)) ? lower : 0;
});

const SMALL_LETTER = /[a-z]/;

/**
 * Whether an application may take this method for another one: methods differ by their letters' case (RFC 9110 9.1), and there are frameworks that read `delete` as `DELETE` (Django and
 * Werkzeug among them), where the policy would have decided on something else. No method in use has small letters.
 */
export function isMisspelledMethod(method: string): boolean {
  return SMALL_LETTER.test(method);
}

/** Bytes of a field value: everything but control characters, with the tab. */
export const VALUE_BYTES = tableOf((byte) => (byte === 9 || (byte >= 32 && byte !== 127) ? 1 : 0));

/** Bytes of a request target: visible ASCII without the fragment mark and without the backslash, which some servers take for a slash. */
export const TARGET_BYTES = tableOf((byte) =>
  byte > 0x20 && byte < 0x7f && byte !== 0x23 && byte !== 0x5c ? 1 : 0,
);

export const CR = 13;
export const LF = 10;
export const SPACE = 32;
export const TAB = 9;
export const COLON = 58;

/** The longest head of a request or response, in bytes. */
export const MAX_HEAD_BYTES = 64 * 1024;

/** The header by which the application learns who calls, as Envoy names it. Only the agent sets it. */
export const CLIENT_CERT_HEADER = 'x-forwarded-client-cert';

/**
 * Whether an application may take a field of this lower-case name for the header of the caller's identity: CGI, WSGI and others
 * read an underscore like a dash, and some every other mark as well.
 */
export function isOwnedHeader(name: string): boolean {
  return name.length === CLIENT_CERT_HEADER.length && name.replace(MARKS, '-') === CLIENT_CERT_HEADER;
}

const MARKS = /[^a-z0-9]/g;
const FRAMING_FIELDS = new Set(['content-length', 'transfer-encoding']);

/**
 * Whether an application that reads other marks like a dash may take a field of this lower-case name for one that says where a message
 * ends, which we do not.
 */
export function isMisspelledFraming(name: string): boolean {
  return !FRAMING_FIELDS.has(name) && FRAMING_FIELDS.has(name.replace(MARKS, '-'));
}

/**
 * Whether two fields of those (by lower-case name) may be one to an application that reads other marks like a dash: the policy would decide by the one, and the application go by the other.
 */
export function hasTwins(headers: Readonly<Record<string, string>>): boolean {
  let seen: Set<string> | undefined;
  for (const name in headers) {
    if (!OTHER_MARK.test(name)) continue;
    const dashed = name.replace(MARKS, '-');
    if (headers[dashed] !== undefined || seen?.has(dashed) === true) return true;
    seen = (seen ?? new Set()).add(dashed);
  }
  return false;
}

/** Than a dash, or the colon of a pseudo-header field. */
const OTHER_MARK = /[^a-z0-9:-]/;

/** Whether latin-1 `text` may stand in a field value or a reason phrase. */
export function isFieldText(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (VALUE_BYTES[text.charCodeAt(i)] !== 1) return false;
  return true;
}

const HEAD_END = Buffer.from('\r\n\r\n');

/** Where the head that starts at `start` ends (after its empty line); -1 while it is not whole, -2 when it can never be one: a bare LF, or too long. */
export function findHeadEnd(bytes: Buffer, start: number): number {
  const at = bytes.indexOf(HEAD_END, start);
  if (at >= 0) return at + 4 - start > MAX_HEAD_BYTES ? -2 : at + 4;
  if (bytes.length - start > MAX_HEAD_BYTES) return -2;
  for (let lf = bytes.indexOf(LF, start); lf >= 0; lf = bytes.indexOf(LF, lf + 1))
    if (lf === start || bytes[lf - 1] !== CR) return -2;
  return -1;
}

function tableOf(valueOf: (byte: number) => number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => valueOf(byte));
}
