import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { SyncPosition } from '../server-link/sync-state.ts';
import { hasHeard } from './heard-position.ts';
import { HANDOVER_PROTOCOL } from './messages.ts';
import { nameInheritedSockets, type StartSuccessor, type Successor } from './successor.ts';

/** What the running agent does at the stages of being replaced. */
export interface Incumbent {
  /** What it listens on now. */
  listSockets(): readonly { readonly name: string; readonly fd: number }[];
  /** Writes down what is known, and is no writer of what both processes share from then on. */
  stepAside(): Promise<void>;
  /** Whether the server has told something since then, which the successor cannot have read. */
  hasNews(): Promise<boolean>;
  /** Up to where it has told this process everything; undefined where it never told anything. */
  readonly heard: SyncPosition | undefined;
  /** The successor is about to serve: stops what until then only one process does, and nobody may leave undone for long. */
  letGo(): Promise<void>;
  /** The successor came to nothing: all is as it was before `stepAside`, also where that was not gone through with. */
  stepBack(): Promise<void>;
  /** The successor serves: takes nothing more, from this turn on. */
  retire(): void;
  /** Ends what only one process does, and answers nobody any more. Never rejects. */
  giveOver(successorPid: number): Promise<void>;
  /** Waits for what is open, as long as it may be. */
  drain(): Promise<void>;
  /** Ends the process. */
  end(): void;
  readonly connections: number;
}

export interface UpgradeOptions {
  readonly incumbent: Incumbent;
  readonly start: StartSuccessor;
  readonly version: string;
  /** How long what is open may go on, in milliseconds. */
  readonly drainMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What came of an upgrade that succeeded. */
export interface Upgraded {
  readonly pid: number;
  readonly version: string;
  readonly tookMs: number;
  /** Left with the process that was replaced. */
  readonly connections: number;
  readonly drainMs: number;
}

/** From the start of the successor until it serves, in milliseconds: whoever asks on the admin socket waits for it, half a minute at most. */
const TAKE_OVER_MS = 25_000;
const TELL_EVERY_MS = 1000;

/**
 * Replaces this process by one of the binary that stands now where this one came from. Until the successor takes connections nothing is lost: whatever goes wrong, this process
 * goes on. One at a time.
 */
export class Upgrade {
  readonly #options: UpgradeOptions;
  #state: 'idle' | 'under_way' | 'replaced' = 'idle';

  constructor(options: UpgradeOptions) {
    this.#options = options;
  }

  get isReplaced(): boolean {
    return this.#state === 'replaced';
  }

  /** Throws `failed_precondition`, reason `upgrade_under_way`, and `unavailable`, reason `successor_failed`, with this process serving as before. */
  async run(): Promise<Upgraded> {
    if (this.#state !== 'idle')
      throw new PicketError(
        'failed_precondition',
        'upgrade_under_way',
        'Another agent is taking over already',
      );
    this.#state = 'under_way';
    const { clock, log, drainMs, incumbent } = this.#options;
    const startedMs = clock.monotonicMs();
    try {
      const { successor, version } = await this.#handOver(startedMs + TAKE_OVER_MS);
      this.#state = 'replaced';
      // From here on there is no way back.
      const { pid } = successor;
      incumbent.retire();
      // At once: what we had hold of it can have from now on.
      const stopTelling = this.#tellDraining(successor);
      await incumbent.giveOver(pid);
      const tookMs = Math.round(clock.monotonicMs() - startedMs);
      const upgraded = { pid, version, tookMs, connections: incumbent.connections, drainMs };
      log.info('agent_replaced', { ...upgraded });
      void this.#leave(successor, stopTelling);
      return upgraded;
    } catch (cause) {
      this.#state = 'idle';
      const error = toPicketError(cause);
      log.error('agent_not_replaced', { error });
      throw error;
    }
  }

  async #handOver(deadlineMs: number): Promise<{ readonly successor: Successor; readonly version: string }> {
    const { incumbent, start, log } = this.#options;
    const sockets = incumbent.listSockets();
    const successor = start({ fds: sockets.map(({ fd }) => fd) });
    try {
      const { version, protocol, takesLate = false } = await successor.expect('hello', deadlineMs);
      if (protocol !== HANDOVER_PROTOCOL) throw stale(`it speaks version ${protocol} of the handover`);
      log.info('agent_successor_started', { pid: successor.pid, version });
      await this.#letServe(successor, { sockets, takesLate, deadlineMs });
      return { successor, version };
    } catch (error) {
      await successor.kill();
      throw error;
    }
  }

  async #letServe(
    successor: Successor,
    {
      sockets,
      takesLate,
      deadlineMs,
    }: {
      readonly sockets: readonly { readonly name: string }[];
      readonly takesLate: boolean;
      readonly deadlineMs: number;
    },
  ): Promise<void> {
    const { incumbent, version } = this.#options;
    try {
      await incumbent.stepAside();
      const { way } = successor;
      successor.tell({ type: 'handover', version, sockets: [...nameInheritedSockets(sockets)], way });
      const { isCurrent, position } = await successor.expect('prepared', deadlineMs);
      const canCatchUp = position !== undefined;
      await this.#requireKnown(successor, { isCurrent, canCatchUp, position, deadlineMs });
      await incumbent.letGo();
      successor.tell({ type: 'go', sockets: takesLate ? this.#giveLate(successor, sockets) : [] });
      const serving = await successor.expect('serving', deadlineMs);
      // The last moment at which there is a way back.
      await this.#requireKnown(successor, {
        isCurrent,
        canCatchUp,
        position: serving.position,
        deadlineMs,
      });
    } catch (error) {
      // It must be gone before what it has opened is opened again.
      await successor.kill();
      await incumbent.stepBack();
      throw error;
    }
  }

  /** What was opened since the successor was started, as in a pod that came: nobody else could listen there. What does not get to it, it opens once we have let go. */
  #giveLate(successor: Successor, sockets: readonly { readonly name: string }[]): { name: string }[] {
    const known = new Set(sockets.map(({ name }) => name));
    const late = this.#options.incumbent.listSockets().filter(({ name }) => !known.has(name));
    return late.filter(({ fd }) => successor.give(fd)).map(({ name }) => ({ name }));
  }

  /**
   * What the server said to us meanwhile, perhaps a quarantine, must not be forgotten: we throw it away. That the successor heard the server once says nothing of what it heard since: it names a
   * position, and is asked to catch up with ours. One of an earlier version cannot, and is believed.
   */
  async #requireKnown(
    successor: Successor,
    {
      isCurrent,
      canCatchUp,
      position,
      deadlineMs,
    }: {
      readonly isCurrent: boolean;
      readonly canCatchUp: boolean;
      readonly position: SyncPosition | undefined;
      readonly deadlineMs: number;
    },
  ): Promise<void> {
    const { incumbent } = this.#options;
    if (!(await incumbent.hasNews())) return;
    const { heard: ours } = incumbent;
    if (ours === undefined || hasHeard(position, ours)) return;
    if (canCatchUp) {
      successor.tell({ type: 'catch_up', position: ours });
      const { position: theirs } = await successor.expect('heard', deadlineMs);
      if (hasHeard(theirs, ours)) return;
    } else if (isCurrent) return;
    throw stale('it has not heard what the server has told us since');
  }

  /** Regularly, until what it returns is called. */
  #tellDraining(successor: Successor): () => void {
    const { incumbent, clock, drainMs } = this.#options;
    const endsAt = new Date(clock.nowMs() + drainMs).toISOString();
    let cancel = (): void => undefined;
    const tell = (): void => {
      successor.tell({ type: 'draining', connections: incumbent.connections, endsAt });
      cancel = clock.schedule(TELL_EVERY_MS, tell);
    };
    tell();
    return () => cancel();
  }

  async #leave(successor: Successor, stopTelling: () => void): Promise<void> {
    const { incumbent, log } = this.#options;
    try {
      await incumbent.drain();
    } catch (error) {
      log.error('agent_drain_failed', { error: toPicketError(error) });
    }
    stopTelling();
    log.info('agent_drained', { cut: incumbent.connections });
    successor.letGo();
    incumbent.end();
  }
}

function stale(why: string): PicketError {
  return new PicketError('unavailable', 'successor_failed', `The new agent did not take over: ${why}`);
}
