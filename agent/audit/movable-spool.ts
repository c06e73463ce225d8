import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { toPicketError } from '../../shared/errors/errors.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { AccessRecorder } from './access-recorder.ts';
import type { RecordBatch } from './record-batch.ts';
import { openSpoolPlace, type HeldSpool, type SpoolPlaceOptions } from './spool-place.ts';
import type { Spool, SpoolStatus } from './spool.ts';

/** How long processes that were killed may take to end, in milliseconds. */
const LET_GO_MS = 5000;
const TRY_EVERY_MS = 50;

export interface MovableSpoolOptions extends SpoolPlaceOptions {
  /** Where places of its own are made: `asideFolder`. */
  readonly asideFolder: string;
  /** Whether another process has the place: it begins beside it. */
  readonly isAside?: boolean;
}

/**
 * The spool of this process, which makes way for another: records go to a place of their own from then on, so that no file has two writers. Every decision is recorded in the one or the other; between the two there
 * is no moment without a spool.
 */
export class MovableSpool implements AccessRecorder {
  readonly #options: MovableSpoolOptions;
  #held: HeldSpool;
  #isAside: boolean;

  /** Opens the spool. Throws as `openSpoolPlace`. */
  constructor(options: MovableSpoolOptions) {
    this.#options = options;
    this.#isAside = options.isAside === true;
    this.#held = this.#open(this.#isAside);
  }

  get isAside(): boolean {
    return this.#isAside;
  }

  /** Where records go now. */
  get current(): Spool {
    return this.#held.spool;
  }

  get status(): SpoolStatus {
    return this.current.status;
  }

  record(record: AccessRecord): boolean {
    return this.current.record(record);
  }

  add(text: string): RecordBatch | undefined {
    return this.current.add(text);
  }

  commit(): void {
    this.current.commit();
  }

  /** Goes on in a place of its own and lets go of the one where it was. Throws, and stays, when there is no other place. Harmless where it is aside. */
  async moveAside(): Promise<void> {
    await this.#move(true);
  }

  /**
   * The other process is gone: goes on where it was. What was recorded meanwhile is left to `LeftOverSpools`. Throws as `openSpoolPlace`, and stays, if what that process started has not
   * let go after some seconds. Harmless where it is.
   */
  async moveBack(): Promise<void> {
    const { clock } = this.#options;
    const endMs = clock.monotonicMs() + LET_GO_MS;
    for (;;) {
      try {
        return await this.#move(false);
      } catch (error) {
        if (toPicketError(error).reason !== 'spool_in_use' || clock.monotonicMs() >= endMs) throw error;
      }
      await new Promise<void>((resolve) => void clock.schedule(TRY_EVERY_MS, resolve));
    }
  }

  /** Puts everything on disk; later records are refused. A place of its own is removed if the server has all of it. */
  async close(): Promise<void> {
    const isAside = this.#isAside;
    await this.#held.close({ isEmpty: isAside && this.status.depth === 0 });
  }

  async #move(isAside: boolean): Promise<void> {
    if (this.#isAside === isAside) return;
    const before = this.#held;
    this.#held = this.#open(isAside);
    this.#isAside = isAside;
    await before.close({ isEmpty: !isAside && before.spool.status.depth === 0 });
  }

  #open(isAside: boolean): HeldSpool {
    const { directory, asideFolder } = this.#options;
    return openSpoolPlace(isAside ? join(asideFolder, randomUUID()) : directory, this.#options);
  }
}
