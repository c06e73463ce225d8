import { expect, test } from 'bun:test';
import { join } from 'node:path';

const PROGRAM = `
  const { applyEngineSettings } = await import(${JSON.stringify(join(import.meta.dirname, 'engine-settings.ts'))});
  applyEngineSettings(process.env);
  console.log(process.env.BUN_GC_TIMER_INTERVAL);`;

function run(environment: Readonly<Record<string, string>>): string {
  const { stdout, exitCode } = Bun.spawnSync([process.execPath, '-e', PROGRAM], { env: environment });
  expect(exitCode).toBe(0);
  return stdout.toString();
}

test('the engine is started with its settings, once', () => {
  expect(run({})).toBe('10000\n');
});

test('a setting that somebody made stands', () => {
  expect(run({ BUN_GC_TIMER_INTERVAL: '500' })).toBe('500\n');
});
