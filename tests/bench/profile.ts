import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
/** Of a profile's text: the head with the ten hottest functions, and the first lines of the list. */
const SHOWN_LINES = 30;

/**
 * Measures one table once more with Picket run from its sources under Bun's profiler, and prints what each process spent its time on. The profiles are left in
 * `dist/profiles`. Figures that are printed with it are those of a profiled program.
 */
export async function profile(name: string, rest: readonly string[]): Promise<number> {
  const folder = join(ROOT, 'dist/profiles', `${name}-${new Date().toISOString().replaceAll(':', '')}`);
  mkdirSync(folder, { recursive: true });
  const flags = ['--cpu-prof-md', `--cpu-prof-dir=${folder}`];
  const binary = join(folder, 'picket');
  const main = join(ROOT, 'cli/main.ts');
  writeFileSync(binary, `#!/bin/sh\nexec ${process.execPath} ${flags.join(' ')} ${main} "$@"\n`);
  chmodSync(binary, 0o755);
  const bench = [process.execPath, ...flags, join(ROOT, 'scripts/bench.ts'), '--only', name, ...rest];
  const child = Bun.spawn(bench, {
    env: { ...process.env, PICKET_BINARY: binary },
    stdin: 'ignore',
    stdout: 'inherit',
    stderr: 'inherit',
  });
  const exitCode = await child.exited;
  for (const file of readdirSync(folder).filter((each) => each.endsWith('.md'))) show(join(folder, file));
  return exitCode;
}

/** Short-lived commands are profiled as well, and are left out. */
function show(file: string): void {
  const lines = readFileSync(file, 'utf8').split('\n');
  const seconds = Number(/^\| ([\d.]+)s \|/m.exec(lines.slice(0, 10).join('\n'))?.[1]);
  if (seconds >= 1) console.log(`\n## ${file}\n${lines.slice(0, SHOWN_LINES).join('\n')}`);
}
