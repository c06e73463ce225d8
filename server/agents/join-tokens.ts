import { createHash } from 'node:crypto';
import { and, asc, eq, gt, isNull, lt } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { joinTokens } from '../datastore/schema.ts';
import { parseNodeAddress, type NodeAddress } from './node-address.ts';

/** Bytes of randomness in a token. */
const TOKEN_BYTES = 32;
/** How long a token may stay good at most, in seconds. */
export const MAX_JOIN_TOKEN_TTL_SECONDS = 30 * 86_400;

/** What an operator wants a token for. */
export interface NewJoinToken {
  /** The node's name, last segment of its SPIFFE ID. */
  readonly name: string;
  /** 1 to `MAX_JOIN_TOKEN_TTL_SECONDS`. */
  readonly ttlSeconds: number;
  /** Addresses that the operator declares for the host; they are confirmed when it attests. */
  readonly addresses: readonly string[];
  /** Who asked for it, for the record. */
  readonly createdBy: string;
}

/** What is kept of a token; the token itself is not. */
export interface JoinToken {
  /** SHA-256 of the token in hexadecimal: its name in lists and for `revoke`. */
  readonly tokenHash: string;
  readonly name: string;
  readonly addresses: readonly NodeAddress[];
  readonly expiresAt: Date;
  /** When a host used it up; null while it can be used. */
  readonly usedAt: Date | null;
  readonly createdBy: string;
}

/** Join tokens: each lets one host of a given name in, once (design: decision 22). */
export class JoinTokens {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #trustDomain: TrustDomain;
  readonly #randomBytes: (count: number) => Uint8Array;

  constructor(options: {
    readonly datastore: Datastore;
    readonly clock: Clock;
    readonly trustDomain: TrustDomain;
    readonly randomBytes: (count: number) => Uint8Array;
  }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
    this.#trustDomain = options.trustDomain;
    this.#randomBytes = options.randomBytes;
  }

  /**
   * Makes a token and returns its text, which nobody can get again. Throws `invalid_argument`: `spiffe_id_invalid` for a name that cannot be a
   * path segment, `ttl_invalid`, `address_invalid`.
   */
  async create(wish: NewJoinToken): Promise<{ readonly token: string; readonly kept: JoinToken }> {
    agentId(this.#trustDomain, { attestationType: 'join_token', name: requireSegment(wish.name) });
    const expiresAt = new Date(this.#clock.nowMs() + requireTtl(wish.ttlSeconds) * 1000);
    const token = Buffer.from(this.#randomBytes(TOKEN_BYTES)).toString('base64url');
    const kept: JoinToken = {
      tokenHash: hashOf(token),
      name: wish.name,
      addresses: [...new Set(wish.addresses.map(parseNodeAddress))],
      expiresAt,
      usedAt: null,
      createdBy: wish.createdBy,
    };
    await this.#datastore.write(async ({ db }) => {
      await db.insert(joinTokens).values(kept);
    });
    return { token, kept };
  }

  /**
   * Uses a token up: of any number of calls with the same token exactly one gets it. Undefined for a token that is unknown, used or expired: the
   * host is not told which.
   */
  async redeem(token: string): Promise<JoinToken | undefined> {
    const now = new Date(this.#clock.nowMs());
    const hash = hashOf(token);
    const rows = await this.#datastore.write(({ db }) =>
      db
        .update(joinTokens)
        .set({ usedAt: now })
        .where(and(eq(joinTokens.tokenHash, hash), isNull(joinTokens.usedAt), gt(joinTokens.expiresAt, now)))
        .returning(),
    );
    return rows[0] === undefined ? undefined : keptOf(rows[0]);
  }

  /** Tokens that have not expired, used ones too, the first to expire first. */
  async list(): Promise<readonly JoinToken[]> {
    const rows = await this.#datastore.db
      .select()
      .from(joinTokens)
      .where(gt(joinTokens.expiresAt, new Date(this.#clock.nowMs())))
      .orderBy(asc(joinTokens.expiresAt), asc(joinTokens.tokenHash));
    return rows.map(keptOf);
  }

  /** Makes a token useless. False if there is no unused one of that hash. */
  async revoke(tokenHash: string): Promise<boolean> {
    const rows = await this.#datastore.write(({ db }) =>
      db
        .delete(joinTokens)
        .where(and(eq(joinTokens.tokenHash, tokenHash), isNull(joinTokens.usedAt)))
        .returning({ tokenHash: joinTokens.tokenHash }),
    );
    return rows.length > 0;
  }

  /** Forgets tokens that expired before `beforeMs`, used or not. Returns how many. */
  async prune(beforeMs: number): Promise<number> {
    const rows = await this.#datastore.write(({ db }) =>
      db
        .delete(joinTokens)
        .where(lt(joinTokens.expiresAt, new Date(beforeMs)))
        .returning({ tokenHash: joinTokens.tokenHash }),
    );
    return rows.length;
  }
}

function keptOf(row: typeof joinTokens.$inferSelect): JoinToken {
  return {
    tokenHash: row.tokenHash,
    name: row.name,
    addresses: row.addresses.map(parseNodeAddress),
    expiresAt: row.expiresAt,
    usedAt: row.usedAt,
    createdBy: row.createdBy,
  };
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/** One path segment and no more, so that a token never names another node than it says. */
function requireSegment(name: string): string {
  if (/^[A-Za-z0-9._-]{1,255}$/.test(name)) return name;
  throw new PicketError(
    'invalid_argument',
    'node_name_invalid',
    `Cannot name a node "${name.slice(0, 60)}": 1 to 255 letters, digits, dots, dashes and underscores are expected`,
  );
}

function requireTtl(ttlSeconds: number): number {
  if (Number.isInteger(ttlSeconds) && ttlSeconds >= 1 && ttlSeconds <= MAX_JOIN_TOKEN_TTL_SECONDS)
    return ttlSeconds;
  throw new PicketError(
    'invalid_argument',
    'ttl_invalid',
    `A join token lives 1 to ${MAX_JOIN_TOKEN_TTL_SECONDS} seconds, not ${ttlSeconds}`,
  );
}
