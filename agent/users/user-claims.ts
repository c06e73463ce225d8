import { z } from 'zod';
import type { KnownUser, UnknownUser } from '../../shared/policy/circumstances.ts';

/** What a token must be to count. */
export interface ClaimRules {
  /** The issuer's configured name. */
  readonly name: string;
  readonly issuer: string;
  /** One of them must be an audience of the token. */
  readonly audiences: readonly string[];
}

/** How far an issuer's clock may be ahead of ours. A token's end is never put off: time may deny, not allow. */
const AHEAD_SECONDS = 30;

const seconds = z
  .number()
  .min(0)
  .max(253_402_300_799)
  .transform((value) => Math.floor(value));
const text = z.string().min(1).max(512);

const claimSet = z.object({
  iss: text,
  sub: text.refine((value) => !/\p{Cc}/u.test(value) && value.isWellFormed()),
  aud: z.union([text.transform((one) => [one]), z.array(text).max(64)]),
  exp: seconds,
  nbf: seconds.optional(),
  iat: seconds.optional(),
  groups: z.array(z.string().max(512)).max(1024).optional().catch(undefined),
});

/** The user whom the claims of a verified token name at that time, or why they name none (RFC 7519 4.1). */
export function userOfClaims(
  claims: Readonly<Record<string, unknown>>,
  rules: ClaimRules,
  nowMs: number,
): KnownUser | UnknownUser {
  const read = claimSet.safeParse(claims);
  if (!read.success) return unknown('claims_invalid');
  const { iss, sub, aud, exp, nbf = 0, iat = 0, groups = [] } = read.data;
  if (iss !== rules.issuer) return unknown('issuer_unknown');
  if (!aud.some((each) => rules.audiences.includes(each))) return unknown('audience_wrong');
  if (exp * 1000 <= nowMs) return unknown('expired');
  if (Math.max(nbf, iat) > nowMs / 1000 + AHEAD_SECONDS) return unknown('not_yet_valid');
  return {
    kind: 'known',
    id: `${rules.name}:${sub}`,
    issuer: iss,
    subject: sub,
    audience: aud,
    groups,
    claims,
    expiresMs: exp * 1000,
  };
}

function unknown(reason: UnknownUser['reason']): UnknownUser {
  return { kind: 'unknown', reason };
}
