import type { Registry } from 'prom-client';
import type { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import type { SpoolStatus } from '../audit/spool.ts';
import type { TurnedAway } from '../proxy/mesh/mesh.ts';
import type { RecentDenials } from '../proxy/records/recent-denials.ts';
import { mergeServices } from '../services/merge-services.ts';
import type { ServiceStatus } from '../services/services.ts';
import { sumMetrics, sumSpools, type MetricsJson } from './worker-figures.ts';
import type { WorkerReport } from './worker-messages.ts';

export interface WorkerTallyOptions {
  /** What those that run reported last. */
  readonly reports: () => readonly WorkerReport[];
  readonly denials: RecentDenials;
  readonly crowd: CrowdTally<TurnedAway>;
}

/** What workers report, as one: of those that run, and what those that have ended had counted. */
export class WorkerTally {
  readonly #options: WorkerTallyOptions;
  /** The counts of those that have ended. */
  #ended: MetricsJson[] = [];
  #descriptorsRefused = 0;

  constructor(options: WorkerTallyOptions) {
    this.#options = options;
  }

  get connections(): number {
    return this.#sum(({ connections }) => connections);
  }

  /** As all of them see the members of services: each passes over on its own. */
  get services(): readonly ServiceStatus[] {
    return mergeServices(this.#options.reports().map(({ services }) => services));
  }

  /** Their lanes as one. */
  get spool(): SpoolStatus | undefined {
    return sumSpools(this.#options.reports().map(({ spool }) => spool));
  }

  /** Connections that were refused for want of file descriptors, of all that ever ran. */
  get descriptorsRefused(): number {
    return this.#descriptorsRefused + this.#sum((report) => report.descriptorsRefused);
  }

  /** Their metrics with those of the agent. */
  async metrics(own: Registry): Promise<string> {
    const ofWorkers = this.#options.reports().map(({ metrics }) => metrics);
    const ofAgent = (await own.getMetricsAsJSON()) as unknown as MetricsJson;
    return await sumMetrics([ofAgent, ...ofWorkers, ...this.#ended]).metrics();
  }

  /** Takes what one has just reported. */
  take(report: WorkerReport, previous: WorkerReport | undefined): void {
    const { denials, crowd } = this.#options;
    for (const denial of report.denials) denials.note(denial);
    for (const why of ['unproven', 'idle', 'full'] as const)
      crowd.note(why, Math.max(0, report.turnedAway[why] - (previous?.turnedAway[why] ?? 0)));
  }

  /** Keeps the counts of one that has ended. */
  takeLast(last: WorkerReport | undefined): void {
    if (last === undefined) return;
    this.#descriptorsRefused += last.descriptorsRefused;
    const parts = [...this.#ended, last.metrics];
    this.#ended = parts;
    // However many end, they are kept as one.
    void this.#sumEnded(parts);
  }

  async #sumEnded(parts: MetricsJson[]): Promise<void> {
    const sum = (await sumMetrics(parts).getMetricsAsJSON()) as unknown as MetricsJson;
    if (this.#ended === parts) this.#ended = [sum];
  }

  #sum(of: (report: WorkerReport) => number): number {
    return this.#options.reports().reduce((sum, report) => sum + of(report), 0);
  }
}
