import type { HolderScan, SocketHolder } from '../native/socket-holders.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { holderScanFailed, holderScanLimited, type HolderFinder, type Sighting } from './holder-finder.ts';
import { sightingsOf } from './seen-holders.ts';

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
  readonly inodes: ReadonlySet<number>;
  readonly resolve: (sightings: ReadonlyMap<number, Sighting>) => void;
  readonly reject: (error: Error) => void;
}

/**
 * A finder that scans /proc, on every kernel, with a thread of its own, started at once: a scan takes 28 ms on a host with 500 processes. All that is
 * asked during one scan is answered by the next, so a connection waits for two scans at most, whatever the number of connections. Looking only
 * at processes of the socket's user would take 1 to 2 ms and miss those that were given the socket by another user. A thread whose
 * descriptor table is its own is not seen.
 */
export function createThreadHolderFinder(clock: Clock): HolderFinder {
  return new ThreadHolderFinder(clock);
}

class ThreadHolderFinder implements HolderFinder {
  readonly search = 'proc';
  readonly isImmediate = false;
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

  /**
   * Of a socket that is known, only the holders found before are looked at, not all processes again: a process that joins them meanwhile was let in by one
   * of them, which it could do just as well a moment later.
   */
  async find(
    inodes: ReadonlySet<number>,
    known?: ReadonlyMap<number, Sighting>,
  ): Promise<ReadonlyMap<number, Sighting>> {
    if (this.#isClosed) throw holderScanFailed('the agent is stopping');
    const before = new Map<number, readonly SocketHolder[]>();
    for (const inode of inodes) {
      const sighting = known?.get(inode);
      if (sighting?.kind === 'seen') before.set(inode, sighting.holders.map(withoutStamp));
    }
    const again = sightingsOf(
      { holders: [...before.values()].flat(), isComplete: true },
      new Set(before.keys()),
    );
    const unknown = inodes.difference(again);
    return unknown.size === 0 ? again : new Map([...again, ...(await this.#scan(unknown))]);
  }

  close(): void {
    this.#isClosed = true;
    this.#abandonWorker('the agent is stopping');
    for (const request of this.#waiting.splice(0)) request.reject(holderScanFailed('the agent is stopping'));
  }

  async #scan(inodes: ReadonlySet<number>): Promise<ReadonlyMap<number, Sighting>> {
    if (this.#waiting.length >= MAX_WAITING) throw holderScanLimited('too many connections wait for it');
    return await new Promise((resolve, reject) => {
      this.#waiting.push({ inodes, resolve, reject });
      this.#startScan();
    });
  }

  #startScan(): void {
    if (this.#running.length > 0 || this.#waiting.length === 0 || this.#isClosed) return;
    this.#running = this.#waiting;
    this.#waiting = [];
    this.#worker ??= this.#openWorker();
    const inodes = [...inodesOf(this.#running)];
    const question: HolderQuestion = { inodes, maxMs: MAX_SCAN_MS, exceptPid: process.pid };
    this.#cancelTimeout = this.#clock.schedule(TIMEOUT_MS, () => this.#abandonWorker('it takes too long'));
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(question);
  }

  #finishScan(scan: HolderScan): void {
    const requests = this.#takeRunning();
    const sightings = scan.isComplete ? sightingsOf(scan, inodesOf(requests)) : undefined;
    for (const { resolve, reject } of requests) {
      if (sightings !== undefined) resolve(sightings);
      else reject(holderScanLimited('there are too many processes or descriptors'));
    }
    this.#startScan();
  }

  #abandonWorker(why: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const { reject } of this.#takeRunning()) reject(holderScanFailed(why));
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

function inodesOf(requests: readonly Request[]): ReadonlySet<number> {
  return new Set(requests.flatMap(({ inodes }) => [...inodes]));
}

function withoutStamp({ inode, pid, tid, fd }: SocketHolder): SocketHolder {
  return { inode, pid, tid, fd };
}
