import { createPublicKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { isKeyFor, SIGNATURE_ALGORITHMS } from './signature-algorithms.ts';

/** A key by which an issuer signs tokens. */
export interface IssuerKey {
  readonly key: KeyObject;
  /** The only algorithm that it is for, where the set says so. */
  readonly algorithm: string | undefined;
}

/** The keys of an issuer by their `kid`. */
export type KeySet = ReadonlyMap<string, IssuerKey>;

const MAX_KEYS = 64;

const keySet = z.object({ keys: z.array(z.unknown()).max(MAX_KEYS) });

const jwkMembers = z.record(z.string(), z.unknown());

const signingKey = z.object({
  kid: z.string().min(1).max(256),
  kty: z.enum(['RSA', 'EC', 'OKP']),
  use: z.literal('sig').optional(),
  alg: z.string().max(32).optional(),
  key_ops: z
    .array(z.string())
    .refine((uses) => uses.includes('verify'))
    .optional(),
});

/**
 * Reads a key set (RFC 7517 5). A key that no token can be verified with is left out: one without `kid`, for another use, of another kind, too weak, or with its
 * private half; and all that share a `kid`, because nobody can tell which of them is meant. A set with none that is left is one without keys: who takes back the only one publishes that.
 * Throws `invalid_argument`, reason `key_set_invalid`, for what is no set.
 */
export function parseKeySet(text: string): KeySet {
  const keys = new Map<string, IssuerKey>();
  const doubled = new Set<string>();
  for (const jwk of readKeys(text)) {
    const found = findUsable(jwk);
    if (found === undefined) continue;
    if (keys.has(found.kid)) doubled.add(found.kid);
    keys.set(found.kid, found.key);
  }
  for (const kid of doubled) keys.delete(kid);
  return keys;
}

function findUsable(jwk: unknown): { readonly kid: string; readonly key: IssuerKey } | undefined {
  const described = signingKey.safeParse(jwk);
  const members = jwkMembers.safeParse(jwk);
  if (!described.success || !members.success || Object.hasOwn(members.data, 'd')) return undefined;
  const { kid, alg } = described.data;
  const key = findPublicKey(members.data);
  const isUsable =
    key !== undefined && SIGNATURE_ALGORITHMS.some((name) => isKeyFor(name, key) && (alg ?? name) === name);
  return isUsable ? { kid, key: { key, algorithm: alg } } : undefined;
}

function readKeys(text: string): readonly unknown[] {
  try {
    return keySet.parse(JSON.parse(text)).keys;
  } catch (cause) {
    throw invalid('it is no JSON object with a list of keys', cause);
  }
}

function findPublicKey(jwk: Readonly<Record<string, unknown>>): KeyObject | undefined {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined;
  }
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'key_set_invalid', `Cannot read the key set: ${why}`, { cause });
}
