import type { Entry } from '../../shared/protocol/registration.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { registrationEntries } from '../datastore/schema.ts';
import { grantHashOf } from './entry-rules.ts';

/** An entry as the protocol carries it. The row was validated when it was written. */
export function entryOf(row: typeof registrationEntries.$inferSelect): Entry {
  return {
    entryId: row.entryId,
    spiffeId: row.spiffeId as SpiffeId,
    parentId: row.parentId as SpiffeId,
    selectors: [...row.selectors] as Selector[],
    ttlSeconds: row.ttlSeconds,
    federatesWith: row.federatesWith,
    dnsNames: row.dnsNames,
    hint: row.hint,
    listeners: [...row.listeners],
    revision: row.revision,
    createdAt: row.createdAt.toISOString(),
  };
}

/** The row that keeps an entry. */
export function rowOf(entry: Entry): typeof registrationEntries.$inferInsert {
  return { ...entry, grantHash: grantHashOf(entry), createdAt: new Date(entry.createdAt) };
}
