import type { Clock } from '../../shared/runtime/clock.ts';
import type { GateListener } from './datagram-gate.ts';

export interface RestedListeningOptions {
  /** Begins to tell; what it resolves to ends that, without `onEnd`. */
  readonly open: (listener: GateListener) => Promise<() => void>;
  readonly listener: GateListener;
  readonly clock: Clock;
}

/** So much is heard in a second; then nothing is until it is over. As much as the rules let one user ask at once. */
export const MAX_HEARD = 400;
const SECOND_MS = 1000;

/** Hears no more than the agent has time for, as the listener says and by a bound of its own. The rules bound what one user asks; where somebody else may have changed them, this does: while nobody listens, the kernel copies nothing. */
export class RestedListening {
  readonly #options: RestedListeningOptions;
  #close: (() => void) | undefined;
  #heard = 0;
  #sinceMs = -Infinity;
  #cancel: () => void = () => undefined;
  #isStopped = false;

  constructor(options: RestedListeningOptions) {
    this.#options = options;
  }

  /** Throws as `open`. */
  async start(): Promise<void> {
    const { open, listener } = this.#options;
    const close = await open({
      onDatagram: (asked) => {
        if (this.#isResting()) listener.onLost(1);
        else if (listener.onDatagram(asked)) return true;
        else this.#rest();
        return false;
      },
      onLost: (datagrams) => {
        this.#isResting();
        listener.onLost(datagrams);
      },
      onEnd: () => listener.onEnd(),
    });
    if (this.#isStopped) close();
    else this.#close = close;
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
    this.#close?.();
    this.#close = undefined;
  }

  /** Counts one more. */
  #isResting(): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#sinceMs >= SECOND_MS) {
      this.#sinceMs = nowMs;
      this.#heard = 0;
    }
    this.#heard += 1;
    if (this.#heard <= MAX_HEARD) return false;
    this.#rest();
    return true;
  }

  /** Until the second is over. */
  #rest(): void {
    const { listener, clock } = this.#options;
    if (this.#close === undefined) return;
    const forMs = this.#sinceMs + SECOND_MS - clock.monotonicMs();
    this.#close();
    this.#close = undefined;
    this.#cancel = clock.schedule(forMs, () => {
      // Somebody else may have taken the place meanwhile.
      void this.start().catch(() => listener.onEnd());
    });
  }
}
