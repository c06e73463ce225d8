import type { Clock } from '../../../shared/runtime/clock.ts';
import { HBONE_LIMITS } from './limits.ts';

/** Asks a silent peer for a sign of life, and tells when none comes: what ztunnel does on both sides of its connections. */
export class HboneLiveness {
  readonly #clock: Clock;
  readonly #events: { ping(): void; lost(): void };
  #heardMs: number;
  #cancel: () => void;

  constructor(clock: Clock, events: { ping(): void; lost(): void }) {
    this.#clock = clock;
    this.#events = events;
    this.#heardMs = clock.monotonicMs();
    this.#cancel = clock.schedule(HBONE_LIMITS.pingAfterMs, () => this.#look());
  }

  /** Something came, or was taken. */
  heard(): void {
    this.#heardMs = this.#clock.monotonicMs();
  }

  stop(): void {
    this.#cancel();
  }

  #look(): void {
    const silentMs = this.#clock.monotonicMs() - this.#heardMs;
    if (silentMs >= HBONE_LIMITS.silenceMs + HBONE_LIMITS.pingAfterMs) return this.#events.lost();
    this.#cancel = this.#clock.schedule(HBONE_LIMITS.pingAfterMs, () => this.#look());
    if (silentMs >= HBONE_LIMITS.pingAfterMs) this.#events.ping();
  }
}
