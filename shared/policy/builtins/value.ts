import { createHash, createHmac } from 'node:crypto';
import type { BuiltinResult, Builtin, Builtins, Json } from './builtin.ts';
import { decodeUtf8 } from './text.ts';

const MAX_RANGE_ITEMS = 100_000;

/** Digests, numbers, versions, objects and tokens that OPA's wasm module leaves to its host. */
export const VALUE_BUILTINS: Builtins = {
  'crypto.md5': digest('md5'),
  'crypto.sha1': digest('sha1'),
  'crypto.sha256': digest('sha256'),
  'crypto.hmac.sha256': hmac('sha256'),
  'crypto.hmac.sha512': hmac('sha512'),
  'numbers.range_step': rangeStep,
  'semver.is_valid': (text) => findSemver(text) !== undefined,
  'semver.compare': compareSemver,
  'object.subset': (whole, part) =>
    isObject(whole) && isObject(part) && !holdsArray(whole) && !holdsArray(part)
      ? isSubset(whole, part)
      : undefined,
  'io.jwt.decode': decodeJwt,
};

function digest(algorithm: string): Builtin {
  return (text) => (typeof text === 'string' ? createHash(algorithm).update(text).digest('hex') : undefined);
}

function hmac(algorithm: string): Builtin {
  return (text, key) =>
    typeof text === 'string' && typeof key === 'string'
      ? createHmac(algorithm, key).update(text).digest('hex')
      : undefined;
}

/** Both ends belong to the range, which runs down when the second is the smaller one. */
function rangeStep(from?: Json, to?: Json, step?: Json): BuiltinResult {
  if (!isInteger(from) || !isInteger(to) || !isInteger(step) || step <= 0) return undefined;
  const length = Math.floor(Math.abs(to - from) / step) + 1;
  if (length > MAX_RANGE_ITEMS)
    throw new RangeError(`numbers.range_step makes more than ${MAX_RANGE_ITEMS} items`);
  const direction = to < from ? -step : step;
  return Array.from({ length }, (_, i) => from + i * direction);
}

function isInteger(value: Json | undefined): value is number {
  return Number.isSafeInteger(value);
}

interface Semver {
  readonly core: readonly number[];
  readonly preRelease: readonly string[];
}

function findSemver(text: Json | undefined): Semver | undefined {
  if (typeof text !== 'string' || text.length > 256) return undefined;
  const match =
    /^(0|[1-9]\d{0,14})\.(0|[1-9]\d{0,14})\.(0|[1-9]\d{0,14})(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$/.exec(
      text,
    );
  if (match === null) return undefined;
  const preRelease = match[4]?.split('.') ?? [];
  const build = match[5]?.split('.') ?? [];
  if ([...preRelease, ...build].includes('') || preRelease.some((part) => /^0\d+$/.test(part)))
    return undefined;
  return { core: match.slice(1, 4).map(Number), preRelease };
}

function compareSemver(left?: Json, right?: Json): BuiltinResult {
  const a = findSemver(left);
  const b = findSemver(right);
  if (a === undefined || b === undefined) return undefined;
  const core = a.core.map((part, i) => Math.sign(part - (b.core[i] ?? 0))).find((sign) => sign !== 0);
  return core ?? comparePreRelease(a.preRelease, b.preRelease);
}

/** Semantic Versioning 2.0.0, 11.3 and 11.4. */
function comparePreRelease(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return Math.sign(b.length - a.length);
  for (const [i, left] of a.entries()) {
    const right = b[i];
    if (right === undefined) return 1;
    if (left !== right) return comparePart(left, right);
  }
  return a.length < b.length ? -1 : 0;
}

function comparePart(a: string, b: string): number {
  const areNumbers = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (areNumbers[0] && areNumbers[1]) return BigInt(a) < BigInt(b) ? -1 : 1;
  if (areNumbers[0] !== areNumbers[1]) return areNumbers[0] ? -1 : 1;
  return a < b ? -1 : 1;
}

function isObject(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Sets cross the border as arrays, and OPA compares the two differently: what cannot be told apart is not answered. */
function holdsArray(value: Json): boolean {
  if (Array.isArray(value)) return true;
  return isObject(value) && Object.values(value).some(holdsArray);
}

function isSubset(whole: { readonly [key: string]: Json }, part: { readonly [key: string]: Json }): boolean {
  return Object.entries(part).every(([key, value]) => {
    const other = Object.hasOwn(whole, key) ? whole[key] : undefined;
    return isObject(value) ? isObject(other) && isSubset(other, value) : other === value;
  });
}

/** Header, payload and signature (hexadecimal) of a compact JWS. It proves nothing: the signature is not verified. */
function decodeJwt(token?: Json): BuiltinResult {
  const match = /^([\w-]+)\.([\w-]+)\.([\w-]*)$/.exec(typeof token === 'string' ? token : '');
  if (match === null) return undefined;
  const header = parseObject(match[1] ?? '');
  const payload = parseObject(match[2] ?? '');
  if (header === undefined || payload === undefined || 'enc' in header || header['cty'] === 'JWT')
    return undefined;
  return [header, payload, Buffer.from(match[3] ?? '', 'base64url').toString('hex')];
}

function parseObject(base64url: string): { readonly [key: string]: Json } | undefined {
  try {
    const value = JSON.parse(decodeUtf8(Buffer.from(base64url, 'base64url')) ?? '') as Json;
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
