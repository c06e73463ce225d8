import { PicketError } from '../../shared/errors/errors.ts';
import type { HolderScan, SocketHolder } from '../native/socket-holders.ts';
import type { Clock } from '../../shared/runtime/clock.ts';

/** Finds the processes that hold sockets. */
export interface HolderFinder {
  /**
   * Every process, except this one, that holds one of the sockets after the call was made. Rejects with `resource_exhausted`, reason
   * `holder_scan_limit`, when not all could be looked at, and with `unavailable`, reason `holder_scan_failed`.
   */
  find(inodes: readonly number[]): Promise<readonly SocketHolder[]>;
  /** Refuses what is under way and all that comes. */
  close(): void;
}

/** What the thread is asked; it answers with a HolderScan. */
export interface HolderQuestion {
  readonly inodes: readonly number[];
  readonly maxMs: number;
  readonly exceptPid: number;
}

/** One scan's time; it ends by itself then. */
const MAX_SCAN_MS = 5_000;
/** A thread that has not answered by then is given up. */
const TIMEOUT_MS = 10_000;
const MAX_WAITING = 4_096;

/** Where the worker stands: beside this file, or inside the executable, which knows its files by their path in the project. */
const IS_COMPILED = import.meta.url.includes('/$bunfs/');
const WORKER = IS_COMPILED ? './agent/workload-attestation/holder-scan/main.ts' : './holder-scan/main.ts';

interface Request {
  readonly inodes: readonly number[];
  readonly resolve: (holders: readonly SocketHolder[]) => void;
  readonly reject: (error: PicketError) => void;
}

/**
 * A finder with a thread of its own, started at once: a scan takes 28 ms on a host with 500 processes. All that is asked during one scan is
 * answered by the next, so a connection waits for two scans at most, whatever the number of connections. Looking only
 * at processes of the socket's user would take 1 to 2 ms and miss those that were given the socket by another user.
 */
export function createHolderFinder(clock: Clock): HolderFinder {
  return new ThreadHolderFinder(clock);
}

class ThreadHolderFinder implements HolderFinder {
  readonly #clock: Clock;
  #worker: Worker | undefined;
  #waiting: Request[] = [];
  #running: readonly Request[] = [];
  #cancelTimeout: () => void = () => undefined;
  #isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#worker = this.#openWorker();
  }

  async find(inodes: readonly number[]): Promise<readonly SocketHolder[]> {
    if (this.#isClosed) throw failed('the agent is stopping');
    if (this.#waiting.length >= MAX_WAITING) throw limited('too many connections wait for it');
    return await new Promise((resolve, reject) => {
      this.#waiting.push({ inodes, resolve, reject });
      this.#startScan();
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#abandonWorker('the agent is stopping');
    for (const request of this.#waiting.splice(0)) request.reject(failed('the agent is stopping'));
  }

  #startScan(): void {
    if (this.#running.length > 0 || this.#waiting.length === 0 || this.#isClosed) return;
    this.#running = this.#waiting;
    this.#waiting = [];
    this.#worker ??= this.#openWorker();
    const inodes = [...new Set(this.#running.flatMap((request) => request.inodes))];
    const question: HolderQuestion = { inodes, maxMs: MAX_SCAN_MS, exceptPid: process.pid };
    this.#cancelTimeout = this.#clock.schedule(TIMEOUT_MS, () => this.#abandonWorker('it takes too long'));
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(question);
  }

  #finishScan({ holders, isComplete }: HolderScan): void {
    for (const { inodes, resolve, reject } of this.#takeRunning()) {
      if (isComplete) resolve(holders.filter(({ inode }) => inodes.includes(inode)));
      else reject(limited('there are too many processes or descriptors'));
    }
    this.#startScan();
  }

  #abandonWorker(why: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const { reject } of this.#takeRunning()) reject(failed(why));
    this.#startScan();
  }

  #takeRunning(): readonly Request[] {
    this.#cancelTimeout();
    const requests = this.#running;
    this.#running = [];
    return requests;
  }

  #openWorker(): Worker {
    const worker = new Worker(new URL(WORKER, import.meta.url), { ref: false });
    worker.addEventListener('message', (event: MessageEvent<HolderScan>) => {
      if (worker === this.#worker) this.#finishScan(event.data);
    });
    worker.addEventListener('error', (event) => {
      if (worker === this.#worker) this.#abandonWorker(event.message);
    });
    return worker;
  }
}

function limited(why: string): PicketError {
  return new PicketError(
    'resource_exhausted',
    'holder_scan_limit',
    `Cannot find a socket's processes: ${why}`,
  );
}

function failed(why: string): PicketError {
  return new PicketError('unavailable', 'holder_scan_failed', `Cannot find a socket's processes: ${why}`);
}
