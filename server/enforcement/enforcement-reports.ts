import { PicketError } from '../../shared/errors/errors.ts';
import type { EnforcementReport } from '../../shared/protocol/enforcement.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { Datastore } from '../datastore/datastore.ts';
import type { Enforcements } from './enforcement.ts';
import { reportEnforcement } from './enforcement-report.ts';

export interface EnforcementReportsOptions {
  readonly datastore: Datastore;
  readonly enforcements: Enforcements;
  readonly clock: Clock;
}

const DAY_MS = 86_400_000;
/** A report reads much, and the database has other work: agents, and operators who shut somebody off. */
const MAX_RUNNING = 2;
const ALL = 'reports';

/** Makes reports of enforcement, few at a time whoever asks for them. */
export class EnforcementReports {
  readonly #options: EnforcementReportsOptions;
  readonly #running = new ConcurrencyLimit(MAX_RUNNING);

  constructor(options: EnforcementReportsOptions) {
    this.#options = options;
  }

  /** Of the last day where `sinceMs` is undefined. Throws `resource_exhausted`, reason `reports_running`, and as `Enforcements.scopeOf`. */
  async report(scope: string, sinceMs: number | undefined): Promise<EnforcementReport> {
    const { datastore, enforcements, clock } = this.#options;
    const untilMs = clock.nowMs();
    const window = { scope: enforcements.scopeOf(scope), sinceMs: sinceMs ?? untilMs - DAY_MS, untilMs };
    const leave = this.#running.tryEnter(ALL);
    if (leave === undefined)
      throw new PicketError(
        'resource_exhausted',
        'reports_running',
        `${MAX_RUNNING} reports are being made already: try again when they are done`,
      );
    try {
      return await reportEnforcement(datastore, window);
    } finally {
      leave();
    }
  }
}
