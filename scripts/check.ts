/** The one check before a commit: format, lint, types, architecture, policy tests. Usage: bun scripts/check.ts [--fix] */
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const isFixing = process.argv.includes('--fix');
const bin = (name: string): string => join(root, 'node_modules', '.bin', name);

const steps: readonly { readonly name: string; readonly command: readonly string[] }[] = [
  { name: 'format', command: [bin('prettier'), isFixing ? '--write' : '--check', '--log-level=warn', '.'] },
  {
    name: 'lint',
    command: [bin('oxlint'), '--type-aware', '--deny-warnings', ...(isFixing ? ['--fix'] : [])],
  },
  { name: 'types', command: [bin('tsc')] },
  { name: 'architecture', command: [process.execPath, 'test', './tests/architecture.test.ts'] },
  {
    name: 'policies',
    command: [process.execPath, join(root, 'scripts', 'check-policies.ts'), ...(isFixing ? ['--fix'] : [])],
  },
];

let failed = 0;
for (const { name, command } of steps) {
  const startedMs = performance.now();
  const step = Bun.spawn([...command], { cwd: root, stdout: 'pipe', stderr: 'pipe', stdin: 'ignore' });
  const [output, errors, code] = await Promise.all([
    new Response(step.stdout).text(),
    new Response(step.stderr).text(),
    step.exited,
  ]);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
  if (code !== 0) {
    failed += 1;
    console.log(`${output}${errors}`.trimEnd());
  }
}
process.exit(failed === 0 ? 0 : 1);
