import { z } from 'zod';
import { run, type RunResult } from './child.ts';
import type { TestHost } from './netns.ts';

/** What a process tells of itself: its metrics, its log, and what `picket doctor` finds. */

const doctorAnswer = z.object({
  ok: z.boolean(),
  checks: z.array(
    z.object({
      area: z.string(),
      name: z.string(),
      outcome: z.enum(['ok', 'warn', 'fail']),
      found: z.string(),
      advice: z.string().optional(),
    }),
  ),
});

/** What `picket doctor --json` found. */
export class Examination {
  readonly exitCode: number;
  readonly #answer: z.output<typeof doctorAnswer>;

  constructor({ exitCode, stdout, stderr }: RunResult) {
    if (stdout === '') throw new Error(`picket doctor said nothing: ${stderr}`);
    this.exitCode = exitCode;
    this.#answer = doctorAnswer.parse(JSON.parse(stdout));
  }

  /** What is not well: `AREA NAME OUTCOME: FOUND`, one a line. */
  get faults(): readonly string[] {
    return this.#answer.checks
      .filter(({ outcome }) => outcome !== 'ok')
      .map(({ area, name, outcome, found }) => `${area} ${name} ${outcome}: ${found}`);
  }

  /** The names of all that was looked at, with their outcome. */
  get outcomes(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      this.#answer.checks.map(({ area, name, outcome }) => [`${area} ${name}`, outcome]),
    );
  }
}

/** One series of the metrics that are served at `port` of the host's loopback, by its name with its labels; undefined where it is not told. */
export async function findMetric(host: TestHost, port: number, series: string): Promise<number | undefined> {
  const { stdout } = await run(host.in('curl', '-sf', '-m', '5', `http://127.0.0.1:${port}/metrics`));
  const line = stdout.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

/** The lines of a log that tell of an event. */
export function eventsOf(log: string, event: string): readonly string[] {
  return log.split('\n').filter((line) => line.includes(`"event":"${event}"`));
}
