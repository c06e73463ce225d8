import { failureOf, toPicketError } from '../../shared/errors/errors.ts';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import { problemOf } from '../../shared/protocol/problem.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { DescriptorSender, type Parcel } from './descriptor-sender.ts';
import {
  fromWorker,
  type Beginning,
  type FromWorker,
  type ToWorker,
  type WorkerReport,
} from './worker-messages.ts';

export interface WorkerProcessOptions {
  /** The program with its arguments that becomes a worker. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Its listening sockets, in the order of `beginning.sockets`. */
  readonly descriptors: readonly number[];
  readonly beginning: Beginning;
  /** Sends records to the server. */
  readonly send: (batch: FramedBatch) => Promise<AuditAnswer>;
  /** It waits for `listen`. */
  readonly onPrepared: () => void;
  /** It takes connections. */
  readonly onReady: () => void;
  readonly onReport: (report: WorkerReport) => void;
  /** It cannot serve a namespace that it was given. */
  readonly onNamespaceFailed: (cookie: string, why: string) => void;
  /** It has ended, in a word how. Called once, and nothing after it. */
  readonly onGone: (how: string) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * A worker that says nothing for so long is killed: what its agent tells it, a quarantine among it, it may not have heard. Its connections end with it. Long enough for a machine
 * that has much else to do.
 */
const MAX_SILENCE_MS = 15_000;
const SILENCE_STEPS = 5;
/** What is open at a worker has a second or two to end, and then it is killed. */
const MAX_STOP_MS = 15_000;

/** One process of a worker, from its start to its end. */
export class WorkerProcess {
  readonly #options: WorkerProcessOptions;
  readonly #child: Bun.Subprocess;
  readonly #asked = new Map<number, () => void>();
  readonly #moving = new Map<number, (isAside: boolean) => void>();
  readonly #drained = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  readonly #sender: DescriptorSender;
  #lastId = 0;
  #isGone = false;

  constructor(options: WorkerProcessOptions) {
    const { command, environment, descriptors, beginning } = options;
    this.#options = options;
    this.#sender = new DescriptorSender(options.clock, (error) => this.#notTold(error));
    this.#child = Bun.spawn([...command], {
      stdio: ['ignore', 'inherit', 'inherit', ...descriptors, this.#sender.far],
      env: environment,
      serialization: 'json',
      ipc: (message: unknown) => this.#heard(message),
      onExit: (_child, exitCode, signal) => this.#ended(exitCode, signal),
    });
    this.#sender.started();
    this.tell(beginning);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Tells the worker something, behind everything that it was told before. */
  tell(message: ToWorker): void {
    if (this.#isGone) return;
    try {
      this.#child.send(message);
    } catch (error) {
      this.#notTold(error);
    }
  }

  /** Tells the worker something with descriptors, which stay the caller's, and open until it has them or they are taken back. */
  give(message: ToWorker, parcel: Omit<Parcel, 'onSent'>): void {
    if (this.#isGone) return;
    this.#sender.send({ ...parcel, onSent: () => this.tell(message) });
  }

  /** Lets it take connections, once it has everything that it was given before. */
  letListen(): void {
    this.give({ kind: 'listen' }, { key: 'listen', descriptors: [] });
  }

  /** Whether the worker has not got it yet, and will not. */
  takeBack(key: string): boolean {
    return this.#sender.takeBack(key);
  }

  /** Asks how it stands; resolves once `onReport` was told, or when the worker has ended. What it was told before, it has taken by then. */
  async report(): Promise<void> {
    if (this.#isGone) return;
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#endAfterSilence();
    this.#asked.set(id, resolve);
    this.tell({ kind: 'report', id });
    await promise.finally(cancel);
  }

  /** In steps: where the whole machine stood still, its answer is heard between two of them. */
  #endAfterSilence(steps = SILENCE_STEPS): () => void {
    let cancelNext = (): void => undefined;
    const cancel = this.#options.clock.schedule(MAX_SILENCE_MS / SILENCE_STEPS, () => {
      if (steps > 1) {
        cancelNext = this.#endAfterSilence(steps - 1);
        return;
      }
      this.#options.log.error('worker_silent', { pid: this.pid });
      this.kill();
    });
    return () => {
      cancel();
      cancelNext();
    };
  }

  /** Has it write its records elsewhere, or where it did before. Whether it does; true where it has ended: it writes nothing any more. */
  async moveSpool(isAside: boolean): Promise<boolean> {
    const id = ++this.#lastId;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#moving.set(id, resolve);
    this.tell({ kind: 'move_spool', id, isAside });
    const isMoved = await Promise.race([promise, this.gone()]);
    return isMoved === undefined || isMoved === isAside;
  }

  /** Has it take nothing more; resolves once nothing is open there, after `withinMs`, and when it has ended. */
  async drain(withinMs: number): Promise<void> {
    this.tell({ kind: 'drain', withinMs });
    await Promise.race([this.#drained.promise, this.gone()]);
  }

  /** Resolves once it has ended. */
  async gone(): Promise<undefined> {
    await this.#gone.promise;
    return undefined;
  }

  /** Lets it end as the agent ends, and kills it if it does not. */
  async stop(): Promise<void> {
    this.tell({ kind: 'stop' });
    const cancel = this.#options.clock.schedule(MAX_STOP_MS, () => this.kill());
    await this.#child.exited.finally(cancel);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Its end is on the way here, or comes by this. */
  #notTold(error: unknown): void {
    this.#options.log.debug('worker_not_told', { error: toPicketError(error) });
    this.kill();
  }

  #heard(message: unknown): void {
    const parsed = fromWorker.safeParse(message);
    if (!parsed.success) {
      this.#options.log.error('worker_not_understood', { pid: this.pid, error: parsed.error });
      return this.kill();
    }
    this.#take(parsed.data);
  }

  #take(said: FromWorker): void {
    switch (said.kind) {
      case 'prepared':
        return this.#options.onPrepared();
      case 'ready':
        return this.#options.onReady();
      case 'ship':
        return void this.#ship(said);
      case 'spool_moved':
        this.#moving.get(said.id)?.(said.isAside);
        return void this.#moving.delete(said.id);
      case 'drained':
        return this.#drained.resolve();
      case 'namespace_failed':
        return this.#options.onNamespaceFailed(said.cookie, said.why);
      case 'report':
        this.#options.onReport(said.report);
        this.#asked.get(said.id)?.();
        this.#asked.delete(said.id);
    }
  }

  async #ship({ id, batch }: Extract<FromWorker, { kind: 'ship' }>): Promise<void> {
    const sending = this.#options.send({ ...batch, frames: Buffer.from(batch.frames, 'base64') });
    const error = await failureOf(sending);
    if (error === undefined) this.tell({ kind: 'shipped', id, answer: await sending });
    else this.tell({ kind: 'not_shipped', id, problem: problemOf(error) });
  }

  #ended(exitCode: number | null, signal: number | string | null): void {
    if (this.#isGone) return;
    this.#isGone = true;
    for (const resolve of this.#asked.values()) resolve();
    this.#asked.clear();
    this.#sender.close();
    this.#gone.resolve();
    this.#options.onGone(signal === null ? `exit code ${exitCode ?? 'unknown'}` : `signal ${signal}`);
  }
}
