import type { AgentStatus } from '../../shared/protocol/sync.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { WakeUp } from './wake-up.ts';

export interface StatusReportsOptions {
  /** What the agent says of itself at this moment. */
  readonly collect: () => AgentStatus | Promise<AgentStatus>;
  /** POST /v1/agent/status. */
  readonly send: (status: AgentStatus) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/** A report that runs by itself. */
export interface StatusReports extends Running {
  /** Something may have changed: looks soon, and reports if it did. Cheap to call often. */
  changed(): void;
}

const REPORT_EVERY_MS = 60_000;
/** Changes that come together make one report. */
const SETTLE_MS = 500;

/** Reports once a minute, and soon after a change. A report that fails is followed by the next one in a minute. */
export function startStatusReports(options: StatusReportsOptions): StatusReports {
  const reports = new Reporter(options);
  return { changed: () => reports.changed(), stop: async () => await reports.stop() };
}

class Reporter {
  readonly #options: StatusReportsOptions;
  readonly #wakeUp: WakeUp;
  readonly #run: Promise<void>;
  #cancelChange: (() => void) | undefined;
  #isDue = true;
  #isStopped = false;
  #reported = '';

  constructor(options: StatusReportsOptions) {
    this.#options = options;
    this.#wakeUp = new WakeUp(options.clock);
    this.#run = this.#keepReporting();
  }

  changed(): void {
    this.#cancelChange ??= this.#options.clock.schedule(SETTLE_MS, () => {
      this.#cancelChange = undefined;
      this.#wakeUp.wake();
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelChange?.();
    this.#wakeUp.wake();
    await this.#run;
  }

  async #keepReporting(): Promise<void> {
    const { clock } = this.#options;
    let lastMs = clock.monotonicMs();
    while (!this.#isStopped) {
      await this.#report();
      if (this.#isDue) lastMs = clock.monotonicMs();
      await this.#wakeUp.sleep(Math.max(0, lastMs + REPORT_EVERY_MS - clock.monotonicMs()));
      this.#isDue = clock.monotonicMs() - lastMs >= REPORT_EVERY_MS;
    }
  }

  async #report(): Promise<void> {
    const { collect, send, log } = this.#options;
    try {
      const status = await collect();
      const told = describe(status);
      if (!this.#isDue && told === this.#reported) return;
      await send(status);
      this.#reported = told;
    } catch (error) {
      log.warn('status_not_reported', { error });
    }
  }
}

/** The cursor moves with every change of anybody: it alone is no news. */
function describe(status: AgentStatus): string {
  return JSON.stringify({ ...status, cursor: 0 });
}
