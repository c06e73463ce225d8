import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { serverId } from '../../shared/spiffe/reserved-path.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { OperatorLog } from '../audit/operator-log.ts';
import { quarantineKey } from './quarantine-items.ts';
import type { Quarantine, Quarantines } from './quarantines.ts';

export interface QuarantineExpiryOptions {
  readonly quarantines: Pick<Quarantines, 'listEnding' | 'lift'>;
  readonly operatorLog: Pick<OperatorLog, 'append'>;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Log;
}

/** Another server, or an operator, may have changed what is there: it is looked at this often. */
const LOOK_MS = 5000;

/** When a quarantine ends by the monotonic clock, as of the first look at it with this end. */
interface Seen {
  readonly untilMs: number;
  readonly dueMs: number;
}

/**
 * Lifts quarantines whose time is over, and records that. A clock that is set ahead lifts nothing early: the time that was left when this server first saw a
 * quarantine must have passed by the monotonic clock too. One that is set back holds it longer.
 */
export function startQuarantineExpiry(options: QuarantineExpiryOptions): Running {
  const expiry = new Expiry(options);
  expiry.look();
  return expiry;
}

class Expiry implements Running {
  readonly #options: QuarantineExpiryOptions;
  readonly #seen = new Map<string, Seen>();
  #cancel: () => void = () => undefined;
  #looking: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(options: QuarantineExpiryOptions) {
    this.#options = options;
  }

  look(): void {
    this.#looking = this.#look();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel();
    await this.#looking;
  }

  async #look(): Promise<void> {
    let nextMs = LOOK_MS;
    try {
      nextMs = await this.#liftDue();
    } catch (error) {
      this.#options.log.error('quarantine_expiry_failed', { error: toPicketError(error) });
    }
    if (!this.#isStopped) this.#cancel = this.#options.clock.schedule(nextMs, () => this.look());
  }

  /** Returns when to look again. */
  async #liftDue(): Promise<number> {
    const ending = await this.#options.quarantines.listEnding();
    let nextMs = LOOK_MS;
    const known = new Set<string>();
    for (const quarantine of ending) {
      const key = quarantineKey(quarantine);
      const leftMs = this.#leftMs(key, quarantine);
      if (leftMs > 0) {
        known.add(key);
        nextMs = Math.min(nextMs, leftMs);
      } else await this.#lift(quarantine);
    }
    for (const key of this.#seen.keys()) if (!known.has(key)) this.#seen.delete(key);
    return nextMs;
  }

  #leftMs(key: string, { until }: Quarantine): number {
    const { clock } = this.#options;
    const untilMs = until?.getTime() ?? Infinity;
    const leftMs = untilMs - clock.nowMs();
    const seen = this.#seen.get(key);
    const current = seen?.untilMs === untilMs ? seen : { untilMs, dueMs: clock.monotonicMs() + leftMs };
    this.#seen.set(key, current);
    return Math.max(leftMs, current.dueMs - clock.monotonicMs());
  }

  async #lift(quarantine: Quarantine): Promise<void> {
    const { quarantines, operatorLog, trustDomain, log } = this.#options;
    const { kind, subject, reason, until, createdBy } = quarantine;
    try {
      await quarantines.lift(quarantine, until === null ? {} : { until });
    } catch (error) {
      // Another server of the cluster was first, or somebody has prolonged it.
      if (error instanceof PicketError && error.code === 'not_found') return;
      throw error;
    }
    log.info('quarantine_expired', { kind, subject, reason });
    await operatorLog.append({
      actor: serverId(trustDomain),
      action: 'quarantine.expire',
      subject: `${kind} ${subject}`,
      decision: 'allow',
      outcome: 'done',
      detail: { reason, until: until?.toISOString() ?? null, createdBy },
    });
  }
}
