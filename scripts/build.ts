/** Builds `dist/picket`: one executable for every role. Usage: bun scripts/build.ts [--target bun-linux-arm64] [--outfile FILE] */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildPgliteTemplate } from '../server/datastore/build-template.ts';
import manifest from '../package.json' with { type: 'json' };

const root = join(import.meta.dirname, '..');
const { values: options } = parseArgs({
  options: { target: { type: 'string' }, outfile: { type: 'string', default: join(root, 'dist', 'picket') } },
});

/** Threads that the executable starts; each is an entry point of its own and found by this path. */
const WORKERS = ['server/policy-admin/sandbox/main.ts', 'agent/workload-attestation/holder-scan/main.ts'];

await main();

async function main(): Promise<void> {
  mkdirSync(join(root, 'dist'), { recursive: true });
  // The embedded database of a new server starts from it, in a third of the time.
  await buildPgliteTemplate();
  rmSync(options.outfile, { force: true });
  const command = [
    process.execPath,
    'build',
    '--compile',
    '--bytecode',
    '--format=esm',
    '--minify',
    // A role loads what is its own: in one piece, all of the program's names and functions were in each process (5 MiB of an agent).
    '--splitting',
    `--define=PICKET_VERSION=${JSON.stringify(manifest.version)}`,
    `--define=PICKET_COMMIT=${JSON.stringify(await commit())}`,
    ...(options.target === undefined ? [] : [`--target=${options.target}`]),
    join(root, 'cli', 'main.ts'),
    ...WORKERS.map((path) => join(root, path)),
    `--outfile=${options.outfile}`,
  ];
  const build = Bun.spawn(command, { cwd: root, stdout: 'inherit', stderr: 'inherit', stdin: 'ignore' });
  if ((await build.exited) !== 0 || !existsSync(options.outfile))
    throw new Error(`Cannot build ${options.outfile}: see above`);
}

async function commit(): Promise<string> {
  const git = Bun.spawn(['git', 'rev-parse', '--short=12', 'HEAD'], {
    cwd: root,
    stdout: 'pipe',
    stderr: 'ignore',
  });
  const text = (await new Response(git.stdout).text()).trim();
  return (await git.exited) === 0 ? text : 'unknown';
}
