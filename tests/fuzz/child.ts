/** Runs one target in a process of its own: bun tests/fuzz/child.ts MODULE JOURNAL SEED ITERATIONS SECONDS. Prints the report as JSON. */
import { fuzz, type FuzzReport } from './engine.ts';
import { Journal } from './journal.ts';
import { loadTarget } from './registry.ts';

const [path = '', journalPath = '', seed, iterations, seconds] = process.argv.slice(2);
const journal = new Journal(journalPath);
const report: FuzzReport = await fuzz(await loadTarget(path), {
  seed: Number(seed),
  iterations: Number(iterations),
  seconds: Number(seconds),
  onInput: (input, iteration) => journal.write(input, iteration),
});
const finding =
  report.finding === undefined
    ? undefined
    : { ...report.finding, input: Buffer.from(report.finding.input).toString('base64') };
console.log(JSON.stringify({ ...report, finding }));
