import { asc, eq } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import { isUniqueViolation } from '../datastore/database-error.ts';
import type { Database, Datastore } from '../datastore/datastore.ts';
import { tpmHosts } from '../datastore/schema.ts';
import { parseNodeAddress, type NodeAddress } from './node-address.ts';

/** Expected PCR values: PCR number to the accepted SHA-256 values in hexadecimal. A PCR that is not in it may have any value. */
export type ExpectedPcrs = Readonly<Record<string, readonly string[]>>;

export type TpmHostState = 'pending' | 'approved' | 'denied';

/** A host that is known by its TPM. */
export interface TpmHost {
  /** SHA-256 of the endorsement key's SubjectPublicKeyInfo (DER), 64 hexadecimal digits. */
  readonly ekHash: string;
  /** Only `approved` may attest. */
  readonly state: TpmHostState;
  /** The operator's name for it; empty while nobody gave one. */
  readonly name: string;
  readonly expectedPcrs: ExpectedPcrs;
  /** Addresses that the operator declared for the host. */
  readonly addresses: readonly NodeAddress[];
  /** Whether a certificate of the EK was shown that chains to a configured manufacturer's root. */
  readonly hasTrustedCertificate: boolean;
  readonly decidedBy: string | null;
  readonly createdAt: Date;
}

/** What an operator decides of a host. */
export interface TpmHostDecision {
  readonly ekHash: string;
  readonly decidedBy: string;
  readonly name?: string;
  readonly expectedPcrs?: ExpectedPcrs;
  readonly addresses?: readonly string[];
}

/** Hosts that wait at most, so that strangers cannot fill the database. */
export const MAX_PENDING_TPM_HOSTS = 1000;

/** The list of TPM hosts that may attest. A stranger is noted as pending and admitted by an operator. */
export class TpmHosts {
  readonly #datastore: Datastore;

  constructor(datastore: Datastore) {
    this.#datastore = datastore;
  }

  /** The host of that endorsement key, whatever its state, or undefined. */
  async find(ekHash: string): Promise<TpmHost | undefined> {
    const rows = await this.#datastore.db.select().from(tpmHosts).where(eq(tpmHosts.ekHash, ekHash));
    return rows[0] === undefined ? undefined : hostOf(rows[0]);
  }

  /**
   * Notes that a host asked to attest: a stranger becomes pending, of a known one only `hasTrustedCertificate` changes. Returns what is
   * known of it. Throws `resource_exhausted`, reason `too_many_pending`, when `MAX_PENDING_TPM_HOSTS` strangers already wait.
   */
  async notePending(stranger: {
    readonly ekHash: string;
    readonly hasTrustedCertificate: boolean;
  }): Promise<TpmHost> {
    const { ekHash, hasTrustedCertificate } = stranger;
    requireEkHash(ekHash);
    return await this.#datastore.write(async ({ db }) => {
      await requireRoom(db, ekHash);
      const rows = await db
        .insert(tpmHosts)
        .values({ ekHash, state: 'pending', expectedPcrs: {}, addresses: [], hasTrustedCertificate })
        .onConflictDoUpdate({ target: tpmHosts.ekHash, set: { hasTrustedCertificate } })
        .returning();
      return hostOf(requireRow(rows[0], ekHash));
    });
  }

  /**
   * Lets a host in, seen before or not: this is the allow-list as well. What `decision` leaves out stays as it was. Throws `invalid_argument`:
   * `ek_hash_invalid`, `node_name_invalid`, `pcrs_invalid`, `address_invalid`; `already_exists`, reason `node_name_taken`, when another host has the name.
   */
  async approve(decision: TpmHostDecision): Promise<TpmHost> {
    return await this.#decide(decision, 'approved');
  }

  /** Keeps a host out; the next attestation and renewal are refused. Throws as `approve`. */
  async deny(decision: Pick<TpmHostDecision, 'ekHash' | 'decidedBy'>): Promise<TpmHost> {
    return await this.#decide(decision, 'denied');
  }

  /** Forgets a host: it is a stranger again. False if it was not known. */
  async remove(ekHash: string): Promise<boolean> {
    const rows = await this.#datastore.write(({ db }) =>
      db.delete(tpmHosts).where(eq(tpmHosts.ekHash, ekHash)).returning({ ekHash: tpmHosts.ekHash }),
    );
    return rows.length > 0;
  }

  /** All hosts, or those in one state, the longest known first. */
  async list(state?: TpmHostState): Promise<readonly TpmHost[]> {
    const rows = await this.#datastore.db
      .select()
      .from(tpmHosts)
      .where(state === undefined ? undefined : eq(tpmHosts.state, state))
      .orderBy(asc(tpmHosts.createdAt), asc(tpmHosts.ekHash));
    return rows.map(hostOf);
  }

  async #decide(decision: TpmHostDecision, state: 'approved' | 'denied'): Promise<TpmHost> {
    const { ekHash, decidedBy } = decision;
    requireEkHash(ekHash);
    const set = {
      state,
      decidedBy,
      ...(decision.name === undefined ? {} : { name: requireName(decision.name) }),
      ...(decision.expectedPcrs === undefined ? {} : { expectedPcrs: requirePcrs(decision.expectedPcrs) }),
      ...(decision.addresses === undefined
        ? {}
        : { addresses: [...new Set(decision.addresses.map(parseNodeAddress))] }),
    };
    const writing = this.#datastore.write(async ({ db }) => {
      const rows = await db
        .insert(tpmHosts)
        .values({ ekHash, expectedPcrs: {}, addresses: [], ...set })
        .onConflictDoUpdate({ target: tpmHosts.ekHash, set })
        .returning();
      return hostOf(requireRow(rows[0], ekHash));
    });
    return await writing.catch((error: unknown) => {
      throw isUniqueViolation(error, 'tpm_hosts_name') ? nameTaken(decision.name ?? '', error) : error;
    });
  }
}

async function requireRoom(db: Database, ekHash: string): Promise<void> {
  const known = await db.select().from(tpmHosts).where(eq(tpmHosts.ekHash, ekHash));
  if (known.length > 0) return;
  const pending = await db.$count(tpmHosts, eq(tpmHosts.state, 'pending'));
  if (pending >= MAX_PENDING_TPM_HOSTS)
    throw new PicketError(
      'resource_exhausted',
      'too_many_pending',
      `${pending} TPM hosts already wait for an operator`,
    );
}

function hostOf(row: typeof tpmHosts.$inferSelect): TpmHost {
  return { ...row, addresses: row.addresses.map(parseNodeAddress) };
}

function requireRow<Row>(row: Row | undefined, ekHash: string): Row {
  if (row !== undefined) return row;
  throw new PicketError('internal', 'row_missing', `The database kept nothing of TPM host ${ekHash}`);
}

function nameTaken(name: string, cause: unknown): PicketError {
  return new PicketError('already_exists', 'node_name_taken', `Another TPM host is named "${name}"`, {
    cause,
  });
}

function requireEkHash(ekHash: string): void {
  if (/^[0-9a-f]{64}$/.test(ekHash)) return;
  throw new PicketError(
    'invalid_argument',
    'ek_hash_invalid',
    `Expected the SHA-256 of an endorsement key as 64 lower-case hexadecimal digits, not "${ekHash.slice(0, 70)}"`,
  );
}

function requireName(name: string): string {
  if (/^[A-Za-z0-9._-]{0,255}$/.test(name) && name !== '.' && name !== '..') return name;
  throw new PicketError(
    'invalid_argument',
    'node_name_invalid',
    `Cannot name a node "${name.slice(0, 60)}": letters, digits, dots, dashes and underscores are expected`,
  );
}

function requirePcrs(expected: ExpectedPcrs): ExpectedPcrs {
  for (const [pcr, values] of Object.entries(expected)) {
    const isValid =
      /^([0-9]|1[0-9]|2[0-3])$/.test(pcr) &&
      values.length > 0 &&
      values.length <= 64 &&
      values.every((value) => /^[0-9a-f]{64}$/.test(value));
    if (!isValid)
      throw new PicketError(
        'invalid_argument',
        'pcrs_invalid',
        `Expected values of PCR "${pcr.slice(0, 10)}" must be 1 to 64 SHA-256 values in lower-case hexadecimal, for PCR 0 to 23`,
      );
  }
  return expected;
}
