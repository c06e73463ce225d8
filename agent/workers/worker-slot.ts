import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { ToWorker, WorkerReport } from './worker-messages.ts';
import type { WorkerProcess, WorkerProcessOptions } from './worker-process.ts';

/** What a slot hears of its worker. */
export type WorkerListeners = Pick<WorkerProcessOptions, 'onPrepared' | 'onReady' | 'onReport' | 'onGone'>;

export interface WorkerSlotOptions {
  readonly worker: number;
  readonly start: (listeners: WorkerListeners) => WorkerProcess;
  readonly onReport: (report: WorkerReport, previous: WorkerReport | undefined) => void;
  /** Its last report, when the process has ended. */
  readonly onGone: (last: WorkerReport | undefined) => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/** How a worker stands, for status. */
export interface WorkerStatus {
  readonly worker: number;
  readonly pid: number | undefined;
  /** Whether it takes connections. */
  readonly isReady: boolean;
  /** How often it ended without being told to. */
  readonly restarts: number;
  readonly report: WorkerReport | undefined;
}

/** Workers report this often at least: so much of their counts is lost when one dies. */
const REPORT_EVERY_MS = 1000;
/** After a life of this length a worker is started again at once; one that dies sooner waits, each time longer. */
const SHORT_LIFE_MS = 5000;
/** One that has not begun to take connections by then, though a full spool is read whole, hangs: it is killed, and started again. */
export const MAX_START_MS = 120_000;
/** How soon a worker that could not go back to its own lane of the spool is asked again, in milliseconds. */
const MOVE_BACK_AGAIN_MS = 1000;
const RETRY = { firstMs: 100, maxMs: 5000 };

/** One place of a worker: whoever has it is started again when it ends. The connections that come meanwhile wait in its listening sockets. */
export class WorkerSlot {
  readonly #options: WorkerSlotOptions;
  readonly #backoff: Backoff;
  #process: WorkerProcess | undefined;
  /** What whoever starts it waits for. */
  #awaited = Promise.withResolvers<void>();
  #mayListen = false;
  /** Whether it is to write its records elsewhere. */
  #isAside = false;
  #isReady = false;
  #isDraining = false;
  #isStopped = false;
  #restarts = 0;
  #report: WorkerReport | undefined;
  #asking: Promise<void> | undefined;
  #askingNext: Promise<void> | undefined;
  #cancel: () => void = () => undefined;

  constructor(options: WorkerSlotOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ ...RETRY, random: options.random });
  }

  /** Starts it; resolves once it could take connections, and rejects if it ends before. */
  async prepare(): Promise<void> {
    this.#launch();
    await this.#awaited.promise;
  }

  /** Lets it take connections, and whoever follows it; resolves once it does. Starts it unless that was done. Rejects if it ends before it ever did, and once it is to take nothing more. */
  async listen(): Promise<void> {
    if (this.#isDraining) throw new Error(`Worker ${this.#options.worker} takes nothing any more`);
    this.#awaited = Promise.withResolvers();
    this.#mayListen = true;
    this.#cancel();
    if (this.#process === undefined) this.#launch();
    else this.#process.letListen();
    await this.#awaited.promise.finally(() => this.#askRegularly());
  }

  get status(): WorkerStatus {
    return {
      worker: this.#options.worker,
      pid: this.#process?.pid,
      isReady: this.#isReady,
      restarts: this.#restarts,
      report: this.#report,
    };
  }

  tell(message: ToWorker): void {
    this.#process?.tell(message);
  }

  /** Gets a report of now, or of a little later: however many ask, one question is under way and one waits. */
  async refresh(): Promise<void> {
    if (this.#asking === undefined) {
      this.#asking = this.#ask();
      return await this.#asking;
    }
    this.#askingNext ??= this.#askAfter(this.#asking);
    await this.#askingNext;
  }

  /** Has it write its records elsewhere, or where it did before, as whoever follows it is started to. Whether it does; one that cannot go back is asked until it can. */
  async moveSpool(isAside: boolean): Promise<boolean> {
    this.#isAside = isAside;
    const running = this.#process;
    if (running === undefined) return true;
    if (!this.#isReady) {
      await endStarting(running);
      return true;
    }
    const isMoved = await running.moveSpool(isAside);
    if (!isMoved && !isAside) this.#moveBackLater(running);
    return isMoved;
  }

  #moveBackLater(running: WorkerProcess): void {
    this.#options.clock.schedule(MOVE_BACK_AGAIN_MS, () => {
      const isDone = this.#process !== running || this.#isAside || this.#isDraining || this.#isStopped;
      if (!isDone) void this.moveSpool(false);
    });
  }

  /** Has it take nothing more, and nobody follow it; resolves once nothing is open there, after `withinMs`, and when it has ended. */
  async drain(withinMs: number): Promise<void> {
    this.#isDraining = true;
    this.#cancel();
    const running = this.#process;
    if (running === undefined) return;
    await (this.#isReady ? running.drain(withinMs) : endStarting(running));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel();
    const running = this.#process;
    if (running === undefined) return;
    await (this.#isReady ? running.stop() : endStarting(running));
  }

  #launch(): void {
    const { start, clock, log, worker } = this.#options;
    const startedMs = clock.monotonicMs();
    const launched = start({
      onPrepared: () => {
        if (this.#mayListen) return launched.letListen();
        cancelDeadline();
        this.#awaited.resolve();
      },
      onReady: () => {
        cancelDeadline();
        this.#isReady = true;
        log.info('worker_ready', { worker, pid: this.#process?.pid });
        this.#awaited.resolve();
      },
      onReport: (report) => {
        const previous = this.#report;
        this.#report = report;
        this.#options.onReport(report, previous);
      },
      onGone: (how) => {
        cancelDeadline();
        this.#gone(how, clock.monotonicMs() - startedMs);
      },
    });
    this.#process = launched;
    const cancelDeadline = clock.schedule(MAX_START_MS, () => {
      log.error('worker_not_ready', { worker, pid: launched.pid });
      launched.kill();
    });
  }

  #gone(how: string, livedMs: number): void {
    const { clock, log, worker, onGone } = this.#options;
    const last = this.#report;
    this.#report = undefined;
    this.#process = undefined;
    this.#isReady = false;
    onGone(last);
    this.#awaited.reject(new Error(`Worker ${worker} ended before it took connections: ${how}`));
    if (this.#isStopped) return;
    if (this.#isDraining) return log.error('worker_ended', { worker, how });
    this.#restarts += 1;
    if (livedMs >= SHORT_LIFE_MS) this.#backoff.reset();
    const delayMs = livedMs >= SHORT_LIFE_MS ? 0 : this.#backoff.nextMs();
    log.error('worker_ended', { worker, how, retry_ms: Math.round(delayMs) });
    this.#cancel = clock.schedule(delayMs, () => this.#launch());
  }

  async #askAfter(asking: Promise<void>): Promise<void> {
    await asking;
    this.#askingNext = undefined;
    this.#asking = this.#ask();
    await this.#asking;
  }

  /** One that is still starting has nothing to report, and may take its time: a full spool is read whole. */
  async #ask(): Promise<void> {
    if (this.#isReady) await this.#process?.report();
    this.#asking = undefined;
  }

  #askRegularly(): void {
    if (this.#isStopped) return;
    this.#options.clock.schedule(REPORT_EVERY_MS, () => {
      void this.refresh().finally(() => this.#askRegularly());
    });
  }
}

/** One that is still starting carries nothing, has recorded nothing, and may take its time before it listens to us. */
async function endStarting(running: WorkerProcess): Promise<void> {
  running.kill();
  await running.gone();
}
