import { and, desc, eq, lt, max } from 'drizzle-orm';
import { z } from 'zod';
import type { policyContent, policySummary } from '../../shared/protocol/operator.ts';
import { signedPolicy, type SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { Database } from '../datastore/datastore.ts';
import { cutPage, parsePageCursor, requirePageSize } from '../datastore/page-cursor.ts';
import { policyActivations, policyVersions } from '../datastore/schema.ts';
import type { PolicyTargetName } from './policy-target.ts';

/** Rows of policies, read and written; what they mean is decided in `policy-admin.ts`. */

export type PolicyVersionRow = typeof policyVersions.$inferSelect;
export type PolicySummary = z.output<typeof policySummary>;
export type PolicyContent = z.output<typeof policyContent>;

/** The version in force and what agents get of it. */
export interface ActivePolicy {
  readonly version: number;
  readonly sequence: number;
  readonly signed: SignedPolicy;
}

/** The version in force, or undefined where none was ever activated. */
export async function findActivePolicy(
  db: Database,
  target: PolicyTargetName,
): Promise<ActivePolicy | undefined> {
  const [row] = await db
    .select()
    .from(policyActivations)
    .where(eq(policyActivations.target, target))
    .orderBy(desc(policyActivations.sequence))
    .limit(1);
  if (row === undefined) return undefined;
  return { version: row.version, sequence: row.sequence, signed: signedPolicy.parse(row.signed) };
}

/** A version with everything that was stored of it. */
export async function findPolicyVersion(
  db: Database,
  key: { readonly target: PolicyTargetName; readonly version: number },
): Promise<PolicyVersionRow | undefined> {
  const [row] = await db
    .select()
    .from(policyVersions)
    .where(and(eq(policyVersions.target, key.target), eq(policyVersions.version, key.version)));
  return row;
}

/** The artefact of a digest, whichever version it belongs to. */
export async function findArtifact(db: Database, digest: string): Promise<Uint8Array | undefined> {
  const [row] = await db
    .select({ artifact: policyVersions.artifact })
    .from(policyVersions)
    .where(eq(policyVersions.digest, digest))
    .limit(1);
  return row?.artifact;
}

/** The highest version of a target; 0 before the first. */
export async function readLastVersion(db: Database, target: PolicyTargetName): Promise<number> {
  const [row] = await db
    .select({ last: max(policyVersions.version) })
    .from(policyVersions)
    .where(eq(policyVersions.target, target));
  return row?.last ?? 0;
}

const SUMMARY_COLUMNS = {
  target: policyVersions.target,
  version: policyVersions.version,
  digest: policyVersions.digest,
  message: policyVersions.message,
  createdBy: policyVersions.createdBy,
  createdAt: policyVersions.createdAt,
} as const;

const pageKey = z.tuple([z.number().int().min(0)]);

/** A page of the versions of a target, newest first. Throws `invalid_argument`, reason `cursor_invalid` or `limit_invalid`. */
export async function listPolicyVersions(
  db: Database,
  page: { readonly target: PolicyTargetName; readonly cursor?: string | undefined; readonly limit?: number },
): Promise<{ readonly items: readonly PolicySummary[]; readonly next: string | null }> {
  const limit = requirePageSize(page.limit);
  const [before] = page.cursor === undefined ? [] : parsePageCursor(page.cursor, pageKey);
  const active = await findActivePolicy(db, page.target);
  const rows = await db
    .select(SUMMARY_COLUMNS)
    .from(policyVersions)
    .where(
      and(
        eq(policyVersions.target, page.target),
        before === undefined ? undefined : lt(policyVersions.version, before),
      ),
    )
    .orderBy(desc(policyVersions.version))
    .limit(limit + 1);
  const { page: found, next } = cutPage(rows, { limit, keyOf: ({ version }) => [version] });
  return { items: found.map((row) => summaryOf(row, active)), next: next.nextCursor ?? null };
}

/** What operators see of a version. */
export function summaryOf(
  row: Pick<PolicyVersionRow, 'target' | 'version' | 'digest' | 'message' | 'createdBy' | 'createdAt'>,
  active: ActivePolicy | undefined,
): PolicySummary {
  return {
    target: row.target,
    version: row.version,
    digest: row.digest,
    message: row.message,
    createdBy: row.createdBy,
    createdAt: row.createdAt.toISOString(),
    activeSequence: active?.version === row.version ? active.sequence : null,
  };
}
