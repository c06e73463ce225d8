import type { AuditAnswer, AuditBatch } from '../../shared/protocol/audit.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { AccessLog } from './access-log.ts';
import type { RecordBudget } from './record-budget.ts';

/**
 * Takes the records of hosts, of each host one batch at a time: however many lanes it has, or requests it makes, it has one connection to the database, and the records of others are stored meanwhile. What its
 * budget does not allow it is told to keep.
 */
export class RecordIntake {
  readonly #accessLog: Pick<AccessLog, 'store'>;
  readonly #budget: Pick<RecordBudget, 'requireRoom' | 'charge'>;
  /** Ends with the last batch of a host that has come so far. */
  readonly #turns = new Map<SpiffeId, Promise<unknown>>();

  constructor(options: {
    readonly accessLog: Pick<AccessLog, 'store'>;
    readonly budget: Pick<RecordBudget, 'requireRoom' | 'charge'>;
  }) {
    this.#accessLog = options.accessLog;
    this.#budget = options.budget;
  }

  /** As `RecordBudget.requireRoom`: what the batches before have left is known before another is read. */
  requireRoom(nodeId: SpiffeId): void {
    this.#budget.requireRoom(nodeId);
  }

  /** As `AccessLog.store`, once the host's batches before it are done; throws as `RecordBudget.requireRoom` as well. A batch whose `signal` was aborted while it waited is not stored. */
  async store(nodeId: SpiffeId, batch: AuditBatch, signal: AbortSignal): Promise<AuditAnswer> {
    return await this.#inTurn(nodeId, async () => {
      signal.throwIfAborted();
      this.#budget.requireRoom(nodeId);
      const { epoch, sequence, records } = await this.#accessLog.store(nodeId, batch);
      this.#budget.charge(nodeId, records);
      return { epoch, sequence };
    });
  }

  async #inTurn<T>(nodeId: SpiffeId, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(nodeId) ?? Promise.resolve();
    const mine = before.then(work);
    const turn = mine.catch(() => undefined);
    this.#turns.set(nodeId, turn);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(nodeId) === turn) this.#turns.delete(nodeId);
    }
  }
}
