/**
 * Why nobody is known to stand behind a request: a closed list, `input.user.reason` of a policy. The empty one stands for a user who is known.
 */
export const USER_REASONS = [
  '',
  /** No issuer is configured on the host that decides. */
  'not_configured',
  /** The request carries no bearer token; no connection does. */
  'no_token',
  /** What it carries is no signed token, or longer than one may be. */
  'token_malformed',
  'issuer_unknown',
  /** Of a kind that is not taken for this: an algorithm outside of the list, or a token for another use. */
  'token_refused',
  /** The issuer's keys are not here, or too old: the control fails closed. */
  'keys_unavailable',
  'key_unknown',
  'signature_invalid',
  'audience_wrong',
  'expired',
  'not_yet_valid',
  /** A claim that must be there is missing, or has another type. */
  'claims_invalid',
] as const;

export type UserReason = (typeof USER_REASONS)[number];

/** A user whose token was verified. */
export interface KnownUser {
  readonly kind: 'known';
  /** `NAME:SUBJECT`: the issuer's configured name, which no issuer can choose, and the subject, which is unique only there. */
  readonly id: string;
  readonly issuer: string;
  readonly subject: string;
  readonly audience: readonly string[];
  /** Of the claim `groups`, if that is a list of texts. */
  readonly groups: readonly string[];
  /** All claims, as the issuer signed them. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** When the token ends, in milliseconds since 1970. */
  readonly expiresMs: number;
}

export interface UnknownUser {
  readonly kind: 'unknown';
  readonly reason: Exclude<UserReason, ''>;
}

/** The person behind a request, by a token that was verified here; whoever is not verified is not there. */
export type DecisionUser = KnownUser | UnknownUser;

/** Names of networks that the deciding host knows, and whether the caller's address is in each. */
export type DecisionNetworks = Readonly<Record<string, boolean>>;

export const NO_USER: UnknownUser = { kind: 'unknown', reason: 'not_configured' };
export const NO_NETWORKS: DecisionNetworks = Object.freeze({});

/** `user` of the policy input. Everything that an unknown user lacks is there, and false or empty. */
export function describeUser(user: DecisionUser): Readonly<Record<string, unknown>> {
  if (user.kind === 'unknown') return { ...NOBODY, reason: user.reason };
  const { id, issuer, subject, audience, groups, claims, expiresMs } = user;
  return {
    id,
    verified: true,
    reason: '',
    issuer,
    subject,
    audience,
    groups,
    claims,
    expires_ns: Math.floor(expiresMs) * 1_000_000,
  };
}

const NOBODY = {
  id: '',
  verified: false,
  reason: 'no_token',
  issuer: '',
  subject: '',
  audience: [],
  groups: [],
  claims: {},
  expires_ns: 0,
} as const;

/**
 * `device` and `context.risk` of the policy input while nothing tells of them. What is good of a device is false, its tier the lowest, and the risk the
 * highest: neither a rule on them nor one that negates them holds because nobody knows.
 */
export const UNKNOWN_DEVICE = {
  id: '',
  known: false,
  managed: false,
  compliant: false,
  trust_tier: 0,
} as const;
export const UNKNOWN_RISK = { known: false, score: 100 } as const;
