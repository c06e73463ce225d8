/** Format and tests of every policy below policies/: a folder with Rego in it is one bundle, of the Rego version that its .manifest names. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';

const policies = join(import.meta.dirname, '..', 'policies');
const isFixing = process.argv.includes('--fix');
const manifest = z.object({ rego_version: z.union([z.literal(0), z.literal(1)]).default(1) });

const folders = new Set([...new Bun.Glob('**/*.rego').scanSync(policies)].map((file) => dirname(file)));
const results = await Promise.all([...folders].map(checkFolder));
process.exitCode = results.every(Boolean) ? 0 : 1;

async function checkFolder(name: string): Promise<boolean> {
  const folder = join(policies, name);
  const file = join(folder, '.manifest');
  const { rego_version } = manifest.parse(existsSync(file) ? await Bun.file(file).json() : {});
  const version = rego_version === 0 ? ['--v0-compatible'] : [];
  // Files by name: opa would skip a .manifest folder's roots and load JSON that is not a policy's data.
  const files = [...new Bun.Glob('*.rego').scanSync({ cwd: folder, absolute: true })];
  const isFormatted = await opa([
    'fmt',
    ...version,
    ...(isFixing ? ['--write'] : ['--fail', '--list']),
    ...files,
  ]);
  return (await opa(['test', ...version, '--fail-on-empty', ...files])) && isFormatted;
}

/** Runs opa; what it printed is shown only if it failed. */
async function opa(args: readonly string[]): Promise<boolean> {
  const child = Bun.spawn(['opa', ...args], { stdout: 'pipe', stderr: 'pipe', stdin: 'ignore' });
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) console.log(`opa ${args.join(' ')}\n${output}${errors}`);
  return code === 0;
}
