import { asc, gt } from 'drizzle-orm';
import type { Datastore } from '../../server/datastore/datastore.ts';
import { changeLog } from '../../server/datastore/schema.ts';

/** What `work` left in the change log, as `kind key` or `kind key for scope`. */
export async function changesOf(
  datastore: Datastore,
  work: () => Promise<unknown>,
): Promise<readonly string[]> {
  const { sequence } = await datastore.position();
  await work();
  const rows = await datastore.db
    .select()
    .from(changeLog)
    .where(gt(changeLog.sequence, sequence))
    .orderBy(asc(changeLog.sequence));
  return rows.map((row) => `${row.kind} ${row.key}${row.scope === null ? '' : ` for ${row.scope}`}`);
}
