import { lockNames } from '../datastore/advisory-lock.ts';
import type { Database } from '../datastore/datastore.ts';
import { services } from '../datastore/schema.ts';

/** Until the end of this transaction nobody else declares a service or gives an address to a node: both must not find the same one free. */
export async function lockServiceAddresses(db: Database): Promise<void> {
  await lockNames(db, ['services']);
}

/** Which of these addresses lead to a service, whatever the port, and to which. To be asked under `lockServiceAddresses`. */
export async function findServiceAddresses(
  db: Database,
  addresses: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const wanted = new Set(addresses);
  const rows = await db.select({ name: services.name, addresses: services.addresses }).from(services);
  return new Map(
    rows.flatMap(({ name, addresses: own }) =>
      own.filter(({ address }) => wanted.has(address)).map(({ address }) => [address, name] as const),
    ),
  );
}
