import type { Clock } from '../../../shared/runtime/clock.ts';

/** What a relay waits for on its own account, application or not. */
export type TimedPhase =
  /** The rest of a head that has begun. */
  | 'head'
  /** The rest of the body of a request that was refused. */
  | 'refused_body'
  /** A request, while no application is connected whose own time limits would hold, or they are not relied on. */
  | 'idle';

/** How long each may take, however its bytes are spread, in milliseconds. */
export const PHASE_MS: Readonly<Record<TimedPhase, number>> = {
  head: 10_000,
  refused_body: 30_000,
  idle: 60_000,
};
/** How long a client may go on sending after it was refused for good: a reset at once would overtake the answer. */
export const LINGER_MS = 5000;
/** How long both sides may take to end in turn, or to take what is still to be sent: what the kernel holds may take a slow reader a while. */
export const CLOSE_MS = 300_000;

/** The one timer of a relay: it runs in a timed phase, or after the last answer, never for both. */
export class RelayTimer {
  readonly #clock: Clock;
  #phase: TimedPhase | undefined;
  #round = 0;
  #onUnclosed: (() => void) | undefined;
  #cancel: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** In which phase the relay is, undefined for none; to be told after everything that was read. A new round, which is the number of requests so far, begins its phase anew. */
  watch(phase: TimedPhase | undefined, round: number, onOver: () => void): void {
    if (phase === this.#phase && (phase === undefined || round === this.#round)) return;
    this.stop();
    this.#phase = phase;
    this.#round = round;
    if (phase !== undefined) this.#cancel = this.#clock.schedule(PHASE_MS[phase], onOver);
  }

  /** The last answer was given. */
  linger(onLingered: () => void): void {
    this.stop();
    this.#cancel = this.#clock.schedule(LINGER_MS, onLingered);
  }

  /** Everything was given; both sides are to end. */
  close(onUnclosed: () => void): void {
    this.stop();
    this.#onUnclosed = onUnclosed;
    this.#cancel = this.#clock.schedule(CLOSE_MS, onUnclosed);
  }

  /** Something of what was given was taken: while it closes, that begins anew. */
  taken(): void {
    if (this.#onUnclosed !== undefined) this.close(this.#onUnclosed);
  }

  stop(): void {
    this.#cancel();
    this.#onUnclosed = undefined;
    this.#cancel = () => undefined;
    this.#phase = undefined;
  }
}
