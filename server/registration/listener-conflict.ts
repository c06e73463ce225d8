import { and, eq, sql } from 'drizzle-orm';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Entry, Listener } from '../../shared/protocol/registration.ts';
import type { Database } from '../datastore/datastore.ts';
import { registrationEntries } from '../datastore/schema.ts';

/**
 * Makes sure that no other identity and no other protocol is registered at a port of the same host, or of the same address of it. The caller has the host locked
 * (`noteDirectoryChanges`), so that two listeners cannot both find a port free. Throws `already_exists`, reason `listener_conflict`.
 */
export async function requireFreeListeners(db: Database, entry: Entry): Promise<void> {
  if (entry.listeners.length === 0) return;
  const rows = await db
    .select()
    .from(registrationEntries)
    .where(
      and(
        eq(registrationEntries.parentId, entry.parentId),
        sql`${registrationEntries.listeners} <> '[]'::jsonb`,
      ),
    );
  for (const rival of rows)
    for (const theirs of rival.listeners) {
      const { port, address } = theirs;
      // One for an address and one for all do not meet: the former goes before.
      const mine = entry.listeners.find((listener) => listener.port === port && listener.address === address);
      if (mine === undefined || rival.entryId === entry.entryId) continue;
      if (rival.spiffeId === entry.spiffeId && wordsOf(mine) === wordsOf(theirs)) continue;
      throw new PicketError(
        'already_exists',
        'listener_conflict',
        `Port ${port} of "${entry.parentId}" is registered for "${rival.spiffeId}" as ${wordsOf(theirs)}`,
        { details: { entryId: rival.entryId, port } },
      );
    }
}

/** How a listener is read and connected; equal for those that may share a port. */
function wordsOf({ protocol, proxyProtocol, transparent }: Listener): string {
  const proxy = proxyProtocol === undefined ? '' : ' with the PROXY protocol';
  return `${protocol}${proxy}${transparent === undefined ? '' : " from the caller's address"}`;
}
