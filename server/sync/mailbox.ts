import type { SyncChange } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { FeedEvent } from './change-feed.ts';

/** Changes that wait for a slow reader at most; one more, and it gets a fresh snapshot instead. */
export const MAX_BACKLOG_CHANGES = 10_000;

/** What came in since the last look. */
export interface Mail {
  /** The log was read up to here. */
  readonly upTo: number;
  /** What of it concerns the agent, in order. */
  readonly changes: readonly { readonly sequence: number; readonly change: SyncChange }[];
  /** Whether changes are missing, and why. */
  readonly lost: 'nothing' | 'overflow' | 'broken';
  /** Whether the agent's node was banned, evicted or attested anew. */
  readonly isStandingChanged: boolean;
}

type Waiting = { readonly sequence: number; readonly change: SyncChange };

/** What the change feed has for one agent and the agent's stream has not taken yet. */
export class Mailbox {
  readonly #agentId: SpiffeId;
  #changes: Waiting[] = [];
  #upTo = 0;
  #lost: Mail['lost'] = 'nothing';
  #isStandingChanged = false;
  #isNew = false;
  #wake = (): void => {};

  constructor(agentId: SpiffeId) {
    this.#agentId = agentId;
  }

  /** Takes in what the feed tells, without anything that is not this agent's. */
  deliver(event: FeedEvent): void {
    if (event.kind === 'broken') this.#lose('broken');
    else {
      this.#upTo = event.batch.upTo;
      for (const { sequence, scope, change } of event.batch.changes) {
        if (scope !== null && scope !== this.#agentId) continue;
        if (change === undefined) this.#isStandingChanged ||= scope === this.#agentId;
        else this.#keep({ sequence, change });
      }
    }
    this.#isNew = true;
    this.#wake();
  }

  /** Everything that has come in; afterwards the box is empty. */
  take(): Mail {
    const mail = {
      upTo: this.#upTo,
      changes: this.#changes,
      lost: this.#lost,
      isStandingChanged: this.#isStandingChanged,
    };
    this.#changes = [];
    this.#lost = 'nothing';
    this.#isStandingChanged = false;
    this.#isNew = false;
    return mail;
  }

  /** Waits for mail, for `timeoutMs`, or for the end of `signal`, whatever comes first. */
  async wait(options: {
    readonly timeoutMs: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  }): Promise<void> {
    if (this.#isNew || options.signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const endTimer = options.clock.schedule(options.timeoutMs, resolve);
    const onAbort = (): void => resolve();
    options.signal.addEventListener('abort', onAbort);
    await promise;
    options.signal.removeEventListener('abort', onAbort);
    endTimer();
  }

  #keep(change: Waiting): void {
    if (this.#lost !== 'nothing') return;
    if (this.#changes.length >= MAX_BACKLOG_CHANGES) this.#lose('overflow');
    else this.#changes.push(change);
  }

  #lose(why: 'overflow' | 'broken'): void {
    this.#lost = why;
    this.#changes = [];
  }
}
