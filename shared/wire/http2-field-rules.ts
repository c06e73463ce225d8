import { isMisspelledFraming, TOKEN_BYTES, VALUE_BYTES } from './http1-syntax.ts';

/** Why a header block is no head of HTTP/2. It never leaves the reader that reads the block. */
export class MalformedHead extends Error {}

/** Fields of a connection, which HTTP/2 does not have (RFC 9113 8.2.2). */
const CONNECTION_FIELDS = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/** What any field must keep to, whatever it is called (RFC 9113 8.2). */
export function requireField(name: string, value: string): void {
  if (!isFieldName(name)) throw new MalformedHead('the name of a field is not valid');
  if (CONNECTION_FIELDS.has(name)) throw new MalformedHead('a field belongs to the connection');
  if (isMisspelledFraming(name))
    throw new MalformedHead('a field that frames the request is spelled with an underscore');
  requireValue(value);
}

/** RFC 9113 8.2.1: no control characters, and no blank at either end, which some take for a part of the value and others do not. */
export function requireValue(value: string): void {
  for (let i = 0; i < value.length; i++)
    if (VALUE_BYTES[value.charCodeAt(i)] !== 1) throw new MalformedHead('a value holds a control character');
  if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1)))
    throw new MalformedHead('a value begins or ends with a blank');
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

export function isToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (TOKEN_BYTES[text.charCodeAt(i)] === 0) return false;
  return text.length > 0;
}

/** A token in lower case (RFC 9113 8.2). */
function isFieldName(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    // The table says 0 for what may not stand there, the byte 0 among them.
    if (code === 0 || TOKEN_BYTES[code] !== code) return false;
  }
  return text.length > 0;
}
