import { toPicketError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';

export interface GateOpeningOptions {
  /** Opens the gate; what it resolves to closes it. */
  readonly open: (onEnd: () => void) => Promise<() => void>;
  readonly onOpen: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

const AGAIN_MS = 200;
const TELL_EVERY_MS = 60_000;

/** Opens the gate, again and again until it is open, and again when it ends: until then nothing passes. */
export class GateOpening {
  readonly #options: GateOpeningOptions;
  #close: (() => void) | undefined;
  #isOpening = false;
  #isStopped = false;
  #cancel: () => void = () => undefined;
  #toldMs = -Infinity;

  constructor(options: GateOpeningOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#close !== undefined;
  }

  start(): void {
    void this.#open();
  }

  /** Somebody who had it has let go of it. */
  hurry(): void {
    if (this.isOpen || this.#isOpening || this.#isStopped) return;
    this.#cancel();
    void this.#open();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
    this.#close?.();
    this.#close = undefined;
  }

  async #open(): Promise<void> {
    const { open, onOpen } = this.#options;
    this.#isOpening = true;
    try {
      const close = await open(() => this.#openLater());
      if (this.#isStopped) return close();
      this.#close = close;
      onOpen();
    } catch (error) {
      this.#tell(error);
      this.#openLater();
    } finally {
      this.#isOpening = false;
    }
  }

  #openLater(): void {
    this.#close?.();
    this.#close = undefined;
    this.#cancel();
    if (!this.#isStopped) this.#cancel = this.#options.clock.schedule(AGAIN_MS, () => void this.#open());
  }

  #tell(error: unknown): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#toldMs < TELL_EVERY_MS) return;
    this.#toldMs = nowMs;
    this.#options.log.warn('datagrams_not_heard', { error: toPicketError(error) });
  }
}
