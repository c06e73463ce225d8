import type { SyncItem } from '../../shared/protocol/sync.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { readPosition } from '../datastore/change-log.ts';
import type { Datastore, Position } from '../datastore/datastore.ts';
import { readEntryItems, readSharedItems } from './sync-items.ts';

/** Everything that an agent is entitled to, and where the log stood then. */
export interface Snapshot {
  readonly position: Position;
  readonly items: readonly SyncItem[];
}

/**
 * Reads snapshots. What all agents share is kept for as long as nothing changes, because after a restart of the server they all ask at once.
 */
export class Snapshots {
  readonly #datastore: Datastore;
  readonly #log: Log;
  #shared: Snapshot | undefined;

  constructor(options: { readonly datastore: Datastore; readonly log: Log }) {
    this.#datastore = options.datastore;
    this.#log = options.log;
  }

  /** The snapshot of one agent. Throws what the datastore throws. */
  async read(agentId: SpiffeId): Promise<Snapshot> {
    return await this.#datastore.readSnapshot(async (db) => {
      const position = await readPosition(db);
      const kept = this.#shared;
      const shared = kept !== undefined && isSame(kept.position, position) ? kept.items : undefined;
      const items = shared ?? (await this.#readShared(position, () => readSharedItems(db)));
      return { position, items: [...items, ...(await readEntryItems(db, agentId))] };
    });
  }

  async #readShared(
    position: Position,
    read: () => ReturnType<typeof readSharedItems>,
  ): Promise<readonly SyncItem[]> {
    const { items, directoryConflicts } = await read();
    if (directoryConflicts > 0) this.#log.warn('directory_conflicts', { count: directoryConflicts });
    this.#shared = { position, items };
    return items;
  }
}

function isSame(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.sequence === b.sequence;
}
