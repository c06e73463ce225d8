import { Counter, Gauge, Registry } from 'prom-client';
import { readDescriptorLimit, readDescriptorUse } from './process-limits.ts';

/** What every process tells of itself. */
export interface ProcessFacts {
  readonly version: string;
  readonly role: 'agent' | 'server';
  /** When it started, in milliseconds since 1970. */
  readonly startedAtMs: number;
}

/** A figure that is read when somebody asks for it. */
export interface Figure {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** Tells the value, or one for each set of labels; what is not told is not there. */
  readonly read: (tell: (value: number, labels?: Readonly<Record<string, string>>) => void) => void;
}

const MICROSECONDS = 1_000_000;

/**
 * A registry with the figures that every process has, under the names that dashboards know. prom-client's own defaults are not taken:
 * half of them read V8, which is not there.
 */
export function createMetrics(facts: ProcessFacts): Registry {
  const registry = new Registry();
  addGauge(registry, {
    name: 'picket_build_info',
    help: 'The version that runs; always 1.',
    labels: ['version', 'role'],
    read: (tell) => tell(1, { version: facts.version, role: facts.role }),
  });
  addGauge(registry, {
    name: 'process_start_time_seconds',
    help: 'When the process started, in seconds since 1970.',
    read: (tell) => tell(facts.startedAtMs / 1000),
  });
  addGauge(registry, {
    name: 'process_resident_memory_bytes',
    help: 'Resident memory.',
    read: (tell) => tell(process.memoryUsage.rss()),
  });
  addGauge(registry, {
    name: 'process_open_fds',
    help: 'Open file descriptors.',
    read: (tell) => tell(readDescriptorUse().open),
  });
  addGauge(registry, {
    name: 'process_max_fds',
    help: 'File descriptors that may be open.',
    read: (tell) => tell(readDescriptorLimit()),
  });
  addCounter(registry, {
    name: 'process_cpu_seconds_total',
    help: 'CPU time spent, user and system.',
    read: (tell) => {
      const { user, system } = process.cpuUsage();
      tell((user + system) / MICROSECONDS);
    },
  });
  return registry;
}

/** Adds a figure that goes up and down. */
export function addGauge(registry: Registry, figure: Figure): void {
  const { name, help, labels = [], read } = figure;
  registry.registerMetric(
    new Gauge({
      name,
      help,
      labelNames: [...labels],
      registers: [],
      collect() {
        this.reset();
        // A gauge without labels comes back as 0 from a reset: then it is taken away, to be told or not.
        if (labels.length === 0) this.remove();
        read((value, values = {}) => this.set(values, value));
      },
    }),
  );
}

/** Adds a figure that somebody else counts and that only grows. */
export function addCounter(registry: Registry, figure: Figure): void {
  const { name, help, labels = [], read } = figure;
  registry.registerMetric(
    new Counter({
      name,
      help,
      labelNames: [...labels],
      registers: [],
      collect() {
        this.reset();
        if (labels.length === 0) this.remove();
        read((value, values = {}) => this.inc(values, value));
      },
    }),
  );
}
