/** Fuzzes the parsers (--help says how). Each target, tests/fuzz/targets/NAME.ts, runs in a process of its own. */
import { parseArgs } from 'node:util';
import { tryInput, type Finding } from '../tests/fuzz/engine.ts';
import { listTargets, loadTarget, pathOfTarget } from '../tests/fuzz/registry.ts';
import { supervise } from '../tests/fuzz/supervise.ts';

const { values } = parseArgs({
  options: {
    list: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true, default: [] },
    seconds: { type: 'string', default: '10' },
    iterations: { type: 'string', default: '4294967295' },
    seed: { type: 'string' },
    input: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const USAGE = `bun scripts/fuzz.ts [options]

  --list          prints the names of the targets
  --only NAME     one target; may be repeated
  --seconds N     for each target (10)
  --iterations N  at most so many inputs for each target
  --seed N        equal seed and iterations give equal inputs; chosen at random and printed unless given
  --input BASE64  tries one input with the target of --only, as a finding says
  --help
`;
if (values.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}

const names = values.only.length > 0 ? values.only : listTargets();
const unknown = names.find((name) => !listTargets().includes(name));
if (unknown !== undefined) fail(`There is no target ${unknown}; see --list`);
const seed = values.seed === undefined ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(values.seed);
const [iterations, seconds] = [Number(values.iterations), Number(values.seconds)];
if (![seed, iterations, seconds].every((value) => Number.isFinite(value) && Number(value) >= 0))
  fail('--seed, --iterations and --seconds are numbers');

if (values.list) console.log(listTargets().join('\n'));
else if (values.input === undefined) await runAll(seed ?? 0);
else await repeat(values.input);

async function runAll(seed: number): Promise<void> {
  console.log(`seed ${seed}`);
  let findings = 0;
  for (const name of names) {
    const report = await supervise(pathOfTarget(name), { seed, iterations, seconds });
    const { finding, outcomes } = report;
    console.log(
      `${finding === undefined ? 'ok    ' : 'FOUND '} ${name.padEnd(18)} ${report.iterations} inputs in ${report.seconds.toFixed(1)} s, ${outcomes} ways`,
    );
    if (finding === undefined) continue;
    findings += 1;
    describe(name, finding, seed);
  }
  process.exitCode = findings === 0 ? 0 : 1;
}

async function repeat(base64: string): Promise<void> {
  const [name = ''] = names;
  if (names.length !== 1) fail('--input needs one --only');
  const result = await tryInput(await loadTarget(pathOfTarget(name)), Buffer.from(base64, 'base64'));
  console.log(typeof result === 'string' ? `ok ${result}` : `FOUND ${result.kind}: ${result.what}`);
  process.exitCode = typeof result === 'string' ? 0 : 1;
}

function describe(name: string, { kind, what, input, iteration }: Finding, seed: number): void {
  const base64 = Buffer.from(input).toString('base64');
  console.log(`  ${kind} at input ${iteration} of seed ${seed}: ${what}`);
  console.log(`  input (${input.length} bytes): ${base64}`);
  console.log(`  repeat: bun scripts/fuzz.ts --only ${name} --input ${base64}`);
}

function fail(message: string): never {
  console.error(`error: ${message}`);
  process.exit(2);
}
