import type { Clock } from '../../../shared/runtime/clock.ts';
import { REFUSED_MS } from '../../egress/handshake-places.ts';
import type { Refusal } from '../judge/judge.ts';

const MAX_KEPT = 4096;

/** Why servers could not be inspected a moment ago: whoever asks again at once is told so without another handshake. */
export class RecentRefusals {
  readonly #clock: Clock;
  /** In the order of their refusals. */
  readonly #kept = new Map<string, { readonly refusal: Refusal; readonly untilMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  find(key: string): Refusal | undefined {
    const kept = this.#kept.get(key);
    return kept !== undefined && this.#clock.monotonicMs() < kept.untilMs ? kept.refusal : undefined;
  }

  keep(key: string, refusal: Refusal): void {
    this.#kept.delete(key);
    this.#kept.set(key, { refusal, untilMs: this.#clock.monotonicMs() + REFUSED_MS });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
  }
}
