import type { Clock } from '../../../shared/runtime/clock.ts';
import { countUnsentBytes } from '../../native/tcp-state.ts';
import { CLOSE_MS } from '../relays/relay-timer.ts';

/** How long a connection that we end may take to send its last frame and to be closed by the peer, in milliseconds, where nothing else is on its way. */
export const CLOSE_SOON_MS = 1000;

export interface LastBytesOptions {
  readonly clock: Clock;
  readonly fd: number;
  /** What the kernel has not taken yet, in bytes. */
  readonly waitingBytes: () => number;
  /** The peer has closed nothing and taken nothing for as long as is waited. */
  readonly onStalled: () => void;
}

/**
 * When a connection of the mesh that carries nothing may be closed. What it carried last may still be on its way to a slow program: in our kernel, and in that of the peer, who does not read it before
 * the program does. To close would void all of it. So the peer is to close in turn, once it has read everything; one that neither does nor takes anything is waited for at least `CLOSE_MS`, and twice as long at most.
 */
export class LastBytes {
  readonly #options: LastBytesOptions;
  #endedMs = -Infinity;
  #cancel = (): void => undefined;

  constructor(options: LastBytesOptions) {
    this.#options = options;
  }

  /** Something that the connection carried has ended in order. */
  ended(): void {
    this.#endedMs = this.#options.clock.monotonicMs();
  }

  /** Our direction was ended in order. */
  wait(): void {
    const { clock, onStalled } = this.#options;
    if (clock.monotonicMs() - this.#endedMs <= CLOSE_MS) return this.#look(this.#count());
    // The peer's program has had its time for what the peer has, if there ever was something.
    this.#cancel = clock.schedule(CLOSE_SOON_MS, () => {
      const left = this.#count();
      if (left === 0) onStalled();
      else this.#look(left);
    });
  }

  /** Nobody waits for what is on its way. */
  hasten(): void {
    const { clock, onStalled } = this.#options;
    this.stop();
    this.#cancel = clock.schedule(CLOSE_SOON_MS, onStalled);
  }

  /** The connection is closed. */
  stop(): void {
    this.#cancel();
  }

  #look(before: number): void {
    const { clock, onStalled } = this.#options;
    this.#cancel = clock.schedule(CLOSE_MS, () => {
      const left = this.#count();
      if (left < before) this.#look(left);
      else onStalled();
    });
  }

  #count(): number {
    const { waitingBytes, fd } = this.#options;
    return waitingBytes() + countUnsentBytes(fd);
  }
}
