import { toPicketError } from '../../shared/errors/errors.ts';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { startShipper } from './shipper.ts';
import { listAsideSpools, openSpoolPlace, type HeldSpool, type SpoolPlaceOptions } from './spool-place.ts';

export interface LeftOverOptions extends SpoolPlaceOptions {
  /** POST /v1/audit/frames. */
  readonly send: (batch: FramedBatch) => Promise<AuditAnswer>;
  readonly random: () => number;
}

const LOOK_EVERY_MS = 10_000;
/** A spool of which the server has taken nothing for so many looks gives way to the next one, if there is one, and comes again after the others: the server may never take it. */
const LOOKS_WITHOUT_PROGRESS = 12;

/** Ships what agents that were replaced could not: one folder after another, each once its agent is gone, and removes it when the server has all of it. */
export function startLeftOverSpools(options: LeftOverOptions): Running {
  const leftOver = new LeftOverSpools(options);
  leftOver.look();
  return { stop: async () => await leftOver.stop() };
}

interface Current {
  readonly held: HeldSpool;
  readonly shipper: Running;
  /** At the last look. */
  depth: number;
  /** Since the server took something. */
  looks: number;
}

class LeftOverSpools {
  readonly #options: LeftOverOptions;
  #current: Current | undefined;
  /** The one that was tried last. */
  #lastDirectory = '';
  #cancel: () => void = () => undefined;
  #isStopped = false;

  constructor(options: LeftOverOptions) {
    this.#options = options;
  }

  look(): void {
    this.#cancel = this.#options.clock.schedule(LOOK_EVERY_MS, () => this.look());
    void this.#finish().then(() => this.#begin());
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel();
    const current = this.#current;
    this.#current = undefined;
    await current?.shipper.stop();
    await current?.held.close({ isEmpty: current.held.spool.status.depth === 0 });
  }

  async #finish(): Promise<void> {
    const current = this.#current;
    if (current === undefined) return;
    const { depth } = current.held.spool.status;
    current.looks = depth < current.depth ? 0 : current.looks + 1;
    current.depth = depth;
    if (depth > 0 && (current.looks < LOOKS_WITHOUT_PROGRESS || this.#others().length === 0)) return;
    this.#current = undefined;
    if (depth > 0)
      this.#options.log.warn('audit_left_over_not_taken', { directory: this.#lastDirectory, depth });
    await current.shipper.stop();
    await current.held.close({ isEmpty: current.held.spool.status.depth === 0 });
  }

  /** Those that come after the one that was tried last, and then those before it. */
  #others(): readonly string[] {
    const all = listAsideSpools(this.#options.directory).toSorted();
    const last = this.#lastDirectory;
    return [...all.filter((each) => each > last), ...all.filter((each) => each < last)];
  }

  #begin(): void {
    if (this.#isStopped || this.#current !== undefined) return;
    const hasLast = listAsideSpools(this.#options.directory).includes(this.#lastDirectory);
    for (const directory of [...this.#others(), ...(hasLast ? [this.#lastDirectory] : [])]) {
      const held = this.#tryOpen(directory);
      if (held === undefined) continue;
      const { send, clock, random, log } = this.#options;
      const { spool } = held;
      log.info('audit_left_over_found', { directory, depth: spool.status.depth });
      const shipper = startShipper({ spool, send, clock, random, log });
      this.#lastDirectory = directory;
      this.#current = { held, shipper, depth: spool.status.depth, looks: 0 };
      return;
    }
  }

  /** Undefined while its agent still writes, and for what cannot be read. */
  #tryOpen(directory: string): HeldSpool | undefined {
    try {
      return openSpoolPlace(directory, this.#options);
    } catch (cause) {
      const error = toPicketError(cause);
      if (error.reason !== 'spool_in_use')
        this.#options.log.warn('audit_left_over_unread', { directory, error });
      return undefined;
    }
  }
}
