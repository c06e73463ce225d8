import { PicketError } from '../errors/errors.ts';

/** A JWS in compact form (RFC 7515 7.1), taken apart and not verified: nothing of it may be believed yet. */
export interface CompactJws {
  readonly algorithm: string;
  /** Which key signed it; undefined where it does not say. */
  readonly keyId: string | undefined;
  /** Media type, lower case, without a leading `application/`; empty where it does not say. */
  readonly type: string;
  /** What the signature covers. */
  readonly signingInput: Uint8Array;
  readonly signature: Uint8Array;
  /** The JSON object of the payload. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Longest token that is looked at, in characters. */
export const MAX_JWS_CHARACTERS = 8192;

const MAX_NAME_CHARACTERS = 256;
const THREE_PARTS = /^([\w-]+)\.([\w-]+)\.([\w-]*)$/;

/**
 * Takes a token apart. Throws `invalid_argument`, reason `jws_invalid`, for what is no signed JSON object in exactly that form: base64url without padding and
 * in its one spelling, a header without `crit` (RFC 7515 4.1.11: we understand no extension), valid UTF-8.
 */
export function parseCompactJws(text: string): CompactJws {
  if (text.length > MAX_JWS_CHARACTERS) throw invalid(`it is longer than ${MAX_JWS_CHARACTERS} characters`);
  const [, header, payload, signature] = THREE_PARTS.exec(text) ?? [];
  if (header === undefined || payload === undefined || signature === undefined)
    throw invalid('it has not three parts in base64url');
  const fields = readObject(header, 'header');
  const { alg, kid, typ = '' } = fields;
  if (typeof alg !== 'string' || !isName(kid) || typeof typ !== 'string' || typ.length > MAX_NAME_CHARACTERS)
    throw invalid('alg, kid or typ of its header is missing or no text');
  if (Object.hasOwn(fields, 'crit')) throw invalid('its header demands an extension');
  return {
    algorithm: alg,
    keyId: kid,
    type: typ.toLowerCase().replace(/^application\//, ''),
    signingInput: Buffer.from(`${header}.${payload}`, 'latin1'),
    signature: decode(signature, 'signature'),
    payload: readObject(payload, 'payload'),
  };
}

function isName(value: unknown): value is string | undefined {
  return value === undefined || (typeof value === 'string' && value.length <= MAX_NAME_CHARACTERS);
}

function readObject(part: string, what: string): Readonly<Record<string, unknown>> {
  const value = parseJson(decode(part, what), what);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`its ${what} is no JSON object`);
  return value as Readonly<Record<string, unknown>>;
}

function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw invalid(`its ${what} is no JSON`, cause);
  }
}

/** Two spellings of the same bytes would be two tokens for one signature. */
function decode(part: string, what: string): Uint8Array {
  const bytes = Buffer.from(part, 'base64url');
  if (bytes.toString('base64url') !== part) throw invalid(`its ${what} is not in base64url`);
  return bytes;
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'jws_invalid', `Cannot read the token: ${why}`, { cause });
}
