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
  /** Which process of the agent asks; absent: the only one. */
  readonly instance?: string;
}

/** An agent that is being replaced and its successor. */
const MAX_STREAMS_PER_AGENT = 2;

/** The source of every agent's synchronisation stream: a snapshot where it needs one, then what the change log says, in its order. */
export class SyncSource {
  readonly #datastore: Datastore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #feed: ChangeFeed;
  readonly #snapshots: Snapshots;
  readonly #streams = new Map<SpiffeId, Map<string, AbortController>>();
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
    for (const streams of this.#streams.values()) for (const stream of streams.values()) stream.abort();
    await this.#feed.stop();
  }

  /** How many streams run. */
  get streamCount(): number {
    return Array.from(this.#streams.values()).reduce((sum, streams) => sum + streams.size, 0);
  }

  /**
   * The messages for one agent: the missing changes or a snapshot, then changes as they are committed, and a ping after `PING_INTERVAL_MS` without
   * any. A process of an agent has one stream: a second one ends the first; and an agent has two processes at most, of which a third ends the oldest. It also ends when the signal fires, the source stops, or the node is banned or evicted.
   * A reader that is too slow for the changes gets a snapshot in their place. Throws what the datastore throws; the agent then dials again.
   */
  async *stream(request: StreamRequest): AsyncGenerator<SyncMessage, void, void> {
    if (this.#isStopped) return;
    const { agentId, instance = '' } = request;
    const own = this.#replaceStream(agentId, instance);
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
      this.#removeStream(agentId, instance, own);
    }
  }

  #replaceStream(agentId: SpiffeId, instance: string): AbortController {
    const streams = this.#streams.get(agentId) ?? new Map<string, AbortController>();
    this.#streams.set(agentId, streams);
    const earlier = streams.get(instance);
    // In the order of their beginning, which is a Map's.
    streams.delete(instance);
    const [oldest] = streams.size < MAX_STREAMS_PER_AGENT ? [] : streams;
    const ended = earlier ?? oldest?.[1];
    if (earlier === undefined && oldest !== undefined) streams.delete(oldest[0]);
    if (ended !== undefined) this.#log.info('sync_stream_replaced', { agentId });
    ended?.abort();
    const own = new AbortController();
    streams.set(instance, own);
    return own;
  }

  #removeStream(agentId: SpiffeId, instance: string, own: AbortController): void {
    const streams = this.#streams.get(agentId);
    if (streams?.get(instance) === own) streams.delete(instance);
    if (streams?.size === 0) this.#streams.delete(agentId);
  }
}
