import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Finding, FuzzReport } from './engine.ts';
import { Journal, JOURNAL_BYTES } from './journal.ts';

export interface SuperviseOptions {
  readonly seed: number;
  readonly iterations: number;
  readonly seconds: number;
  /** No input may take longer; the process is killed then. */
  readonly hangMs?: number;
}

const CHILD = join(import.meta.dirname, 'child.ts');
const HANG_MS = 20_000;
const LOOK_MS = 250;

/** Runs the target of a file in a process of its own, so that an endless loop or a crash is a finding like any other. */
export async function supervise(path: string, options: SuperviseOptions): Promise<FuzzReport> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-fuzz-'));
  try {
    const journalPath = join(folder, 'input');
    writeFileSync(journalPath, new Uint8Array(JOURNAL_BYTES));
    return await run(path, { ...options, journalPath });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run(
  path: string,
  options: SuperviseOptions & { readonly journalPath: string },
): Promise<FuzzReport> {
  const { journalPath, seed, iterations, seconds } = options;
  const journal = new Journal(journalPath);
  const args = [path, journalPath, seed, iterations, seconds].map(String);
  const child = Bun.spawn([process.execPath, CHILD, ...args], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const guard = watch(child, journal, options.hangMs ?? HANG_MS);
  const [output, errors, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]).finally(guard.end);
  if (exitCode === 0) return readReport(output);
  const { input, iteration } = journal.read();
  const what = guard.isHanging()
    ? 'it does not end'
    : `the process ended with ${child.signalCode ?? exitCode}: ${errors.slice(-2000)}`;
  const finding: Finding = { kind: guard.isHanging() ? 'hang' : 'crash', what, input, iteration };
  return { iterations: iteration + 1, seconds: 0, outcomes: 0, finding };
}

function watch(
  child: Bun.Subprocess,
  journal: Journal,
  hangMs: number,
): { readonly end: () => void; readonly isHanging: () => boolean } {
  let isHanging = false;
  let last = -1;
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const { iteration } = journal.read();
    if (iteration !== last) {
      last = iteration;
      lastMs = performance.now();
    } else if (performance.now() - lastMs > hangMs) {
      isHanging = true;
      child.kill('SIGKILL');
    }
  }, LOOK_MS);
  return { end: () => clearInterval(timer), isHanging: () => isHanging };
}

function readReport(output: string): FuzzReport {
  const { finding, ...report } = JSON.parse(output) as Omit<FuzzReport, 'finding'> & {
    readonly finding?: Omit<Finding, 'input'> & { readonly input: string };
  };
  if (finding === undefined) return { ...report, finding: undefined };
  return { ...report, finding: { ...finding, input: Buffer.from(finding.input, 'base64') } };
}
