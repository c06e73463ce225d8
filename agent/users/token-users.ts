import {
  USER_REASONS,
  type DecisionUser,
  type KnownUser,
  type UnknownUser,
} from '../../shared/policy/circumstances.ts';
import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { MAX_JWS_CHARACTERS, parseCompactJws, type CompactJws } from '../../shared/wire/compact-jws.ts';
import { IssuerKeys } from './issuer-keys.ts';
import type { KeySource } from './key-source.ts';
import { isSignatureValid, type SignatureAlgorithm } from './signature-algorithms.ts';
import { userOfClaims, type ClaimRules } from './user-claims.ts';
import type { IssuerStatus, Users } from './users.ts';

/** An issuer whose tokens are taken. */
export interface Issuer extends ClaimRules {
  readonly algorithms: readonly SignatureAlgorithm[];
  readonly source: KeySource;
  readonly refreshMs: number;
  readonly maxKeyAgeMs: number;
}

export interface TokenUsersOptions {
  readonly issuers: readonly Issuer[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Of each token that was looked at and not remembered: `known`, or why it is nobody's. */
  readonly onVerified: (outcome: 'known' | UnknownUser['reason']) => void;
}

/** Kinds of tokens (RFC 8725 3.11): an ID or access token; a logout or security event token of the same issuer is neither. */
const TYPES: ReadonlySet<string> = new Set(['', 'jwt', 'at+jwt']);

/** Users that are remembered by their token, and how long those may be together. */
const MAX_KNOWN = 4096;
const MAX_KNOWN_CHARACTERS = 8 * 1024 * 1024;

const BEARER = /^bearer +([\w.-]+) *$/i;

interface TrustedIssuer extends Issuer {
  readonly keys: IssuerKeys;
}

/**
 * Users by the bearer token of a request (RFC 6750 2.1), verified by the keys that are held here. A token is verified once and remembered until it ends or keys
 * change; one that does not hold is not remembered, so that nobody can push out the good ones with bad ones.
 */
export class TokenUsers implements Users, Running {
  readonly #options: TokenUsersOptions;
  readonly #issuers: ReadonlyMap<string, TrustedIssuer>;
  /** In the order of their last use. */
  readonly #known = new Map<string, KnownUser>();
  #knownCharacters = 0;

  constructor(options: TokenUsersOptions) {
    this.#options = options;
    this.#issuers = new Map(options.issuers.map((issuer) => [issuer.issuer, this.#trust(issuer)]));
  }

  /** Reads all keys for the first time. An issuer whose keys cannot be read has no users until they can. */
  async start(): Promise<void> {
    await Promise.all(Array.from(this.#issuers.values(), async ({ keys }) => await keys.start()));
  }

  async stop(): Promise<void> {
    for (const { keys } of this.#issuers.values()) keys.stop();
    await Promise.resolve();
  }

  get status(): readonly IssuerStatus[] {
    return Array.from(this.#issuers.values(), ({ keys }) => keys.status);
  }

  identify(http: DecisionHttpRequest | null): DecisionUser {
    if (this.#issuers.size === 0) return NOBODY.not_configured;
    const header = http?.headers['authorization'];
    if (header === undefined || !/^bearer\b/i.test(header)) return NOBODY.no_token;
    if (header.length > MAX_JWS_CHARACTERS + 16) return this.#tell(NOBODY.token_malformed);
    const token = BEARER.exec(header)?.[1];
    if (token === undefined) return this.#tell(NOBODY.token_malformed);
    return this.#findKnown(token) ?? this.#verify(token);
  }

  #trust(issuer: Issuer): TrustedIssuer {
    const { clock, random, log } = this.#options;
    const keys = new IssuerKeys({
      ...issuer,
      maxAgeMs: issuer.maxKeyAgeMs,
      clock,
      random,
      log,
      onChange: () => this.#forgetAll(),
    });
    return { ...issuer, keys };
  }

  #findKnown(token: string): KnownUser | undefined {
    const user = this.#known.get(token);
    if (user === undefined) return undefined;
    this.#forget(token);
    const isGood =
      user.expiresMs > this.#options.clock.nowMs() && this.#issuers.get(user.issuer)?.keys.areThere === true;
    if (!isGood) return undefined;
    this.#remember(token, user);
    return user;
  }

  #verify(token: string): DecisionUser {
    const jws = findJws(token);
    if (jws === undefined) return this.#tell(NOBODY.token_malformed);
    const { iss } = jws.payload;
    const issuer = typeof iss === 'string' ? this.#issuers.get(iss) : undefined;
    if (issuer === undefined) return this.#tell(NOBODY.issuer_unknown);
    const fault = findSignatureFault(jws, issuer);
    if (fault !== undefined) return this.#tell(NOBODY[fault]);
    const user = userOfClaims(jws.payload, issuer, this.#options.clock.nowMs());
    if (user.kind === 'unknown') return this.#tell(NOBODY[user.reason]);
    this.#remember(token, user);
    return this.#tell(user);
  }

  #tell<T extends DecisionUser>(user: T): T {
    this.#options.onVerified(user.kind === 'known' ? 'known' : user.reason);
    return user;
  }

  #remember(token: string, user: KnownUser): void {
    this.#known.set(token, user);
    this.#knownCharacters += token.length;
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MAX_KNOWN && this.#knownCharacters <= MAX_KNOWN_CHARACTERS) return;
      this.#forget(oldest);
    }
  }

  #forget(token: string): void {
    if (this.#known.delete(token)) this.#knownCharacters -= token.length;
  }

  #forgetAll(): void {
    this.#known.clear();
    this.#knownCharacters = 0;
  }
}

function findJws(token: string): CompactJws | undefined {
  try {
    return parseCompactJws(token);
  } catch {
    return undefined;
  }
}

/** Whether the issuer signed it. The algorithm is one that is configured, and the key's own, before anything is computed. */
function findSignatureFault(jws: CompactJws, issuer: TrustedIssuer): UnknownUser['reason'] | undefined {
  const { algorithm, keyId, type, signingInput: input, signature } = jws;
  const isTaken = issuer.algorithms.some((name) => name === algorithm) && TYPES.has(type);
  if (!isTaken || keyId === undefined) return 'token_refused';
  if (!issuer.keys.areThere) return 'keys_unavailable';
  const key = issuer.keys.find(keyId);
  if (key === undefined) return 'key_unknown';
  if (key.algorithm !== undefined && key.algorithm !== algorithm) return 'token_refused';
  return isSignatureValid(algorithm, key.key, { input, signature }) ? undefined : 'signature_invalid';
}

/** One object for each reason: who asks again is known by it. */
const NOBODY = Object.fromEntries(
  USER_REASONS.filter((reason) => reason !== '').map((reason) => [
    reason,
    Object.freeze({ kind: 'unknown', reason }),
  ]),
) as Readonly<Record<UnknownUser['reason'], UnknownUser>>;
