import type { SyncMessage } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Datastore, Position } from '../datastore/datastore.ts';
import { ChangeFeed } from './change-feed.ts';
import { Mailbox } from './mailbox.ts';
import { Snapshots } from './snapshots.ts';
import { SyncStream } from './sync-stream.ts';

/** Which stream an agent wants. */
export interface StreamRequest {
  /** From the agent's certificate, already authenticated (`Nodes.authenticate`). */
  readonly agentId: SpiffeId;
  /** Where its last stream ended; absent: from the beginning. */
  readonly resumeFrom?: Position;
  /** Ends the stream. */
  readonly signal: AbortSignal;
}

/** The source of every agent's synchronisation stream (design: decision 10). */
export class SyncSource {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #feed: ChangeFeed;
  readonly #snapshots: Snapshots;
  readonly #streams = new Map<SpiffeId, AbortController>();
  #isStopped = false;

  constructor(options: {
    readonly datastore: Datastore;
    readonly clock: Clock;
    readonly log: Log;
    /** From 0 to 1, for the delays after a failure of the database. */
    readonly random: () => number;
  }) {
    this.#datastore = options.datastore;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#feed = new ChangeFeed(options);
    this.#snapshots = new Snapshots(options);
  }

  /** Begins to follow the change log. Throws what the datastore throws. */
  async start(): Promise<void> {
    await this.#feed.start();
  }

  /** Ends every stream and the reading of the log, for good. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const stream of this.#streams.values()) stream.abort();
    await this.#feed.stop();
  }

  /** How many streams run. */
  get streamCount(): number {
    return this.#streams.size;
  }

  /**
   * The messages for one agent: the missing changes or a snapshot, then changes as they are committed, and a ping after `PING_INTERVAL_MS` without
   * any. An agent has one stream: a second one ends the first. It also ends when the signal fires, the source stops, or the node is banned or evicted.
   * A reader that is too slow for the changes gets a snapshot in their place. Throws what the datastore throws; the agent then dials again.
   */
  async *stream(request: StreamRequest): AsyncGenerator<SyncMessage, void, void> {
    if (this.#isStopped) return;
    const { agentId } = request;
    const own = this.#replaceStream(agentId);
    const mailbox = new Mailbox(agentId);
    // Before anything is read: what is committed in between comes twice rather than never.
    const unsubscribe = this.#feed.subscribe((event) => mailbox.deliver(event));
    try {
      const stream = new SyncStream({
        agentId,
        mailbox,
        signal: AbortSignal.any([request.signal, own.signal]),
        datastore: this.#datastore,
        snapshots: this.#snapshots,
        clock: this.#clock,
        log: this.#log,
      });
      yield* stream.run(request.resumeFrom);
    } finally {
      unsubscribe();
      if (this.#streams.get(agentId) === own) this.#streams.delete(agentId);
    }
  }

  #replaceStream(agentId: SpiffeId): AbortController {
    const earlier = this.#streams.get(agentId);
    if (earlier !== undefined) this.#log.info('sync_stream_replaced', { agentId });
    earlier?.abort();
    const own = new AbortController();
    this.#streams.set(agentId, own);
    return own;
  }
}
