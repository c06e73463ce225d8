import { eq } from 'drizzle-orm';
import type { SyncMessage } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Datastore, Position } from '../datastore/datastore.ts';
import { nodes } from '../datastore/schema.ts';
import { readChanges, type LoggedChange } from './change-reader.ts';
import type { Mail, Mailbox } from './mailbox.ts';
import type { Snapshots } from './snapshots.ts';

/** The longest silence of a stream. */
export const PING_INTERVAL_MS = 10_000;

/** A cursor further behind than this is answered by a snapshot, which is then the smaller answer. */
const MAX_RESUMED_CHANGES = 10_000;

/** One agent's stream while it runs. */
export class SyncStream {
  readonly #agentId: SpiffeId;
  readonly #mailbox: Mailbox;
  readonly #signal: AbortSignal;
  readonly #datastore: Datastore;
  readonly #snapshots: Snapshots;
  readonly #clock: Clock;
  readonly #log: Log;
  /** What the agent has, or would have if there had been anything for it. */
  #position: Position = { epoch: '', sequence: 0 };
  #sentSequence = 0;

  constructor(options: {
    readonly agentId: SpiffeId;
    readonly mailbox: Mailbox;
    readonly signal: AbortSignal;
    readonly datastore: Datastore;
    readonly snapshots: Snapshots;
    readonly clock: Clock;
    readonly log: Log;
  }) {
    this.#agentId = options.agentId;
    this.#mailbox = options.mailbox;
    this.#signal = options.signal;
    this.#datastore = options.datastore;
    this.#snapshots = options.snapshots;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** The messages, until the signal fires or the node loses its standing. */
  async *run(resumeFrom: Position | undefined): AsyncGenerator<SyncMessage, void, void> {
    if (!(await this.#isInStanding())) return;
    yield* this.#begin(resumeFrom);
    let pingAtMs = this.#clock.monotonicMs() + PING_INTERVAL_MS;
    while (!this.#signal.aborted) {
      const timeoutMs = Math.max(0, pingAtMs - this.#clock.monotonicMs());
      await this.#mailbox.wait({ timeoutMs, clock: this.#clock, signal: this.#signal });
      if (this.#signal.aborted) return;
      const mail = this.#mailbox.take();
      if (mail.isStandingChanged && !(await this.#isInStanding())) return;
      const message = await this.#next(mail, this.#clock.monotonicMs() >= pingAtMs);
      if (message === undefined) continue;
      yield message;
      pingAtMs = this.#clock.monotonicMs() + PING_INTERVAL_MS;
    }
  }

  async *#begin(resumeFrom: Position | undefined): AsyncGenerator<SyncMessage, void, void> {
    let from = resumeFrom;
    if (from === undefined || !(await this.#isNear(from))) return yield await this.#snapshot();
    for (let isLast = false; !isLast;) {
      const batch = await readChanges(this.#datastore, { ...from, agentId: this.#agentId });
      if (batch === undefined) return yield await this.#snapshot();
      from = { epoch: from.epoch, sequence: batch.upTo };
      ({ isLast } = batch);
      // The first message also when it is empty: it tells the agent that its cursor is good.
      if (isLast || batch.changes.length > 0) yield this.#changes(from, batch.changes);
    }
  }

  async #next(mail: Mail, isPingDue: boolean): Promise<SyncMessage | undefined> {
    if (mail.lost !== 'nothing') {
      this.#log.warn('sync_stream_restarted', { agentId: this.#agentId, reason: mail.lost });
      return await this.#snapshot();
    }
    const { epoch, sequence } = this.#position;
    const changes = mail.changes.filter((change) => change.sequence > sequence);
    const position = { epoch, sequence: Math.max(sequence, mail.upTo) };
    if (changes.length > 0) return this.#changes(position, changes);
    this.#position = position;
    if (!isPingDue) return undefined;
    // Changes of others moved the cursor: let the agent resume from here.
    return position.sequence > this.#sentSequence ? this.#changes(position, []) : { kind: 'ping' };
  }

  async #snapshot(): Promise<SyncMessage> {
    const { position, items } = await this.#snapshots.read(this.#agentId);
    this.#position = position;
    this.#sentSequence = position.sequence;
    return { kind: 'snapshot', epoch: position.epoch, cursor: position.sequence, items: [...items] };
  }

  #changes(position: Position, changes: readonly Pick<LoggedChange, 'change'>[]): SyncMessage {
    this.#position = position;
    this.#sentSequence = position.sequence;
    return {
      kind: 'changes',
      epoch: position.epoch,
      cursor: position.sequence,
      changes: changes.flatMap(({ change }) => (change === undefined ? [] : [change])),
    };
  }

  async #isNear(from: Position): Promise<boolean> {
    const now = await this.#datastore.position();
    const behind = now.sequence - from.sequence;
    return now.epoch === from.epoch && behind >= 0 && behind <= MAX_RESUMED_CHANGES;
  }

  async #isInStanding(): Promise<boolean> {
    const rows = await this.#datastore.db
      .select({ isBanned: nodes.isBanned })
      .from(nodes)
      .where(eq(nodes.nodeId, this.#agentId));
    const isInStanding = rows[0]?.isBanned === false;
    if (!isInStanding) this.#log.warn('sync_stream_refused', { agentId: this.#agentId });
    return isInStanding;
  }
}
