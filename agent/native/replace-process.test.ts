import { expect, test } from 'bun:test';
import { join } from 'node:path';

const PROGRAM = join(import.meta.dirname, 'fixtures/replace-process.ts');

interface Said {
  readonly pid: number;
  readonly args: readonly string[];
  readonly TOLD?: string;
  readonly UNCHANGED?: string;
}

function start(...args: readonly string[]) {
  const command = [process.execPath, PROGRAM, ...args];
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, { env: { PATH: '/bin', UNCHANGED: '1' } });
  const lines = stdout.toString().trim().split('\n');
  const said = lines.map((line) => JSON.parse(line) as Said);
  return { said, stderr: stderr.toString(), exitCode };
}

test('a process goes on as the same program with other settings', () => {
  const args = ['1000', '', 'two words'];
  const { said, exitCode } = start(...args);
  const [first, second] = said;
  expect(first).toEqual({ pid: first!.pid, args, UNCHANGED: '1' });
  expect(second).toEqual({ ...first!, TOLD: 'ä = "b"\n' });
  expect([said.length, exitCode]).toEqual([2, 0]);
});

test('what the kernel does not take is an error, not another program', () => {
  // One string may have 128 KiB.
  const { said, stderr, exitCode } = start(String(1024 * 1024));
  expect(said).toHaveLength(1);
  expect(stderr).toContain('E2BIG');
  expect(exitCode).not.toBe(0);
});
