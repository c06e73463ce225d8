import { createHash } from 'node:crypto';
import { and, asc, eq, gt, isNotNull, isNull, lt } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { decodePemBlocks } from '../../shared/wire/pem.ts';
import { parseX509Certificate } from '../../shared/wire/x509-certificate.ts';
import type { Database, Datastore, Transaction } from '../datastore/datastore.ts';
import { issuedSvids, joinTokens, nodes } from '../datastore/schema.ts';
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

/** A token that its host may come in by. */
export interface RedeemedToken {
  /** Serial of the certificate that the same host got by it before; undefined: none yet. */
  readonly replacedSerial: string | undefined;
}

/** Join tokens: each lets one host of a given name in, once. */
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

  /** What is kept of a token, used and expired ones too; undefined for one that nobody made. */
  async find(token: string): Promise<JoinToken | undefined> {
    const rows = await this.#datastore.db
      .select()
      .from(joinTokens)
      .where(eq(joinTokens.tokenHash, hashOf(token)));
    return rows[0] === undefined ? undefined : keptOf(rows[0]);
  }

  /**
   * Uses a token up in the transaction that admits its host: of any number of calls with the same token exactly one gets it. That host gets it again, by its key,
   * as long as the node stands as it was admitted: the answer may have been lost, and a host that it has reached asks no more. Undefined for a token that is unknown,
   * used by somebody else or expired: the host is not told which.
   */
  async redeem(
    { db }: Transaction,
    token: string,
    publicKeySpki: Uint8Array,
  ): Promise<RedeemedToken | undefined> {
    const now = new Date(this.#clock.nowMs());
    const hash = hashOf(token);
    const [redeemed] = await db
      .update(joinTokens)
      .set({ usedAt: now })
      .where(and(eq(joinTokens.tokenHash, hash), isNull(joinTokens.usedAt), gt(joinTokens.expiresAt, now)))
      .returning();
    if (redeemed !== undefined) return { replacedSerial: undefined };
    const [used] = await db
      .select()
      .from(joinTokens)
      .where(and(eq(joinTokens.tokenHash, hash), isNotNull(joinTokens.usedAt)));
    if (used === undefined) return undefined;
    const nodeId = agentId(this.#trustDomain, { attestationType: 'join_token', name: used.name });
    const first = await findFirstCertificate(db, nodeId);
    const isSameHost = first !== undefined && Buffer.from(publicKeySpki).equals(first.publicKeySpki);
    return isSameHost ? { replacedSerial: first.serial } : undefined;
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

/** The certificate that a node got when it attested, if it has not renewed it since. */
async function findFirstCertificate(
  db: Database,
  nodeId: SpiffeId,
): Promise<{ readonly serial: string; readonly publicKeySpki: Uint8Array } | undefined> {
  const [row] = await db
    .select({ serial: nodes.certSerial, chainPem: issuedSvids.chainPem })
    .from(nodes)
    .innerJoin(issuedSvids, eq(issuedSvids.serial, nodes.certSerial))
    .where(and(eq(nodes.nodeId, nodeId), isNull(nodes.previousCertSerial)));
  const [leaf] = row === undefined ? [] : decodePemBlocks('CERTIFICATE', row.chainPem);
  if (row === undefined || leaf === undefined) return undefined;
  return { serial: row.serial, publicKeySpki: parseX509Certificate(leaf).publicKeySpki };
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
