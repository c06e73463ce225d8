import type { BuiltinResult, Builtins, Json } from './builtin.ts';

/** Builtins on strings that OPA's wasm module leaves to its host. */
export const TEXT_BUILTINS: Builtins = {
  'strings.any_prefix_match': (texts, prefixes) => matchAny(texts, prefixes, (a, b) => a.startsWith(b)),
  'strings.any_suffix_match': (texts, suffixes) => matchAny(texts, suffixes, (a, b) => a.endsWith(b)),
  'strings.count': countParts,
  indexof_n: findAll,
  'hex.encode': (text) => withString(text, (value) => Buffer.from(value).toString('hex')),
  'hex.decode': (text) =>
    withString(text, (value) =>
      /^(?:[0-9a-fA-F]{2})*$/.test(value) ? decodeUtf8(Buffer.from(value, 'hex')) : undefined,
    ),
  'base64url.encode_no_pad': (text) => withString(text, (value) => Buffer.from(value).toString('base64url')),
  'glob.quote_meta': (text) => withString(text, (value) => value.replace(/[*?\\[\]{}]/g, '\\$&')),
  'urlquery.encode': (text) => withString(text, encodeQuery),
  'urlquery.decode': (text) => withString(text, decodeQuery),
};

/** The text of UTF-8 bytes, or undefined if they are none. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function withString(value: Json | undefined, use: (text: string) => BuiltinResult): BuiltinResult {
  return typeof value === 'string' ? use(value) : undefined;
}

function countParts(text?: Json, part?: Json): BuiltinResult {
  if (typeof text !== 'string' || typeof part !== 'string') return undefined;
  return part === '' ? Array.from(text).length + 1 : text.split(part).length - 1;
}

function matchAny(
  texts: Json | undefined,
  parts: Json | undefined,
  isMatch: (text: string, part: string) => boolean,
): BuiltinResult {
  const left = toStrings(texts);
  const right = toStrings(parts);
  return left === undefined || right === undefined
    ? undefined
    : left.some((text) => right.some((part) => isMatch(text, part)));
}

function toStrings(value: Json | undefined): readonly string[] | undefined {
  const list: readonly unknown[] = Array.isArray(value) ? (value as readonly Json[]) : [value];
  return list.every((item) => typeof item === 'string') ? list : undefined;
}

function findAll(text?: Json, part?: Json): BuiltinResult {
  if (typeof text !== 'string' || typeof part !== 'string' || part === '') return undefined;
  const points = Array.from(text);
  const wanted = Array.from(part);
  const found: number[] = [];
  for (let i = 0; i + wanted.length <= points.length; i++)
    if (wanted.every((point, j) => points[i + j] === point)) found.push(i);
  return found;
}

function encodeQuery(text: string): string {
  return encodeURIComponent(text.toWellFormed())
    .replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
}

function decodeQuery(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
