import { and, desc, eq, gt, lt } from 'drizzle-orm';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import type { IssuedCertificate } from '../ca/ca.ts';
import type { Datastore, Transaction } from '../datastore/datastore.ts';
import { issuedSvids } from '../datastore/schema.ts';

/** A certificate that was issued, and for whom. */
export interface SvidIssue {
  readonly certificate: IssuedCertificate;
  /** The agent that asked. */
  readonly nodeId: SpiffeId;
  /** The entry that it was issued for; null for the agent's own. */
  readonly entryId: string | null;
}

/** An issued certificate as it is shown. */
export interface IssuedSvidRecord {
  /** Lower-case hexadecimal. */
  readonly serial: string;
  readonly spiffeId: SpiffeId;
  readonly entryId: string | null;
  readonly nodeId: SpiffeId;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Leaf and intermediates, PEM. */
  readonly chainPem: string;
}

/** The most certificates of one identity that are shown; one identity may live on many nodes. */
const MAX_LISTED_SVIDS = 1000;

/** What the certificate authority has given out and what has not ended. */
export class IssuedSvids {
  readonly #datastore: Datastore;
  readonly #clock: Clock;

  constructor(options: { readonly datastore: Datastore; readonly clock: Clock }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
  }

  /** Keeps a batch, before the certificates leave the server. */
  async record(issues: readonly SvidIssue[]): Promise<void> {
    if (issues.length === 0) return;
    await this.#datastore.write(async (transaction) => await this.recordIn(transaction, issues));
  }

  /** As `record`, with what else must be kept with them. */
  async recordIn({ db }: Transaction, issues: readonly SvidIssue[]): Promise<void> {
    await db.insert(issuedSvids).values(issues.map(rowOf));
  }

  /** Certificates of an identity that are valid now or soon, the newest first, at most `MAX_LISTED_SVIDS`. */
  async listCurrent(spiffeId: SpiffeId): Promise<readonly IssuedSvidRecord[]> {
    const now = new Date(this.#clock.nowMs());
    const rows = await this.#datastore.db
      .select()
      .from(issuedSvids)
      .where(and(eq(issuedSvids.spiffeId, spiffeId), gt(issuedSvids.notAfter, now)))
      .orderBy(desc(issuedSvids.notAfter), desc(issuedSvids.serial))
      .limit(MAX_LISTED_SVIDS);
    return rows as IssuedSvidRecord[];
  }

  /** Forgets what ended before now. Returns how many. */
  async prune(): Promise<number> {
    const rows = await this.#datastore.write(({ db }) =>
      db
        .delete(issuedSvids)
        .where(lt(issuedSvids.notAfter, new Date(this.#clock.nowMs())))
        .returning({ serial: issuedSvids.serial }),
    );
    return rows.length;
  }
}

function rowOf(issue: SvidIssue): typeof issuedSvids.$inferInsert {
  const { certificate, nodeId, entryId } = issue;
  return {
    serial: certificate.serial,
    spiffeId: certificate.spiffeId,
    entryId,
    nodeId,
    notBefore: new Date(certificate.notBeforeMs),
    notAfter: new Date(certificate.notAfterMs),
    chainPem: certificate.chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
  };
}
