import { describe, expect, test } from 'bun:test';
import { ChildLimitError, runBoundedChild, type ChildLimits, type ChildResult } from './bounded-child.ts';

const LIMITS: ChildLimits = { timeoutMs: 60_000, maxOutputBytes: 4096, memoryKib: 65_536 };

async function run(script: string, limits: Partial<ChildLimits> = {}): Promise<ChildResult> {
  return await runBoundedChild({
    command: ['/bin/sh', '-c', script],
    cwd: '/',
    env: { GIVEN: 'yes' },
    limits: { ...LIMITS, ...limits },
  });
}

async function excessOf(running: Promise<unknown>): Promise<string | undefined> {
  try {
    await running;
    return undefined;
  } catch (error) {
    if (error instanceof ChildLimitError) return error.excess;
    throw error;
  }
}

describe('runBoundedChild()', () => {
  test('gives output, errors and exit code', async () => {
    expect(await run('echo out; echo err >&2; exit 3')).toEqual({
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    });
  });

  test('hands over the given environment and nothing else', async () => {
    const { stdout } = await run('/usr/bin/env');
    const names = stdout
      .trim()
      .split('\n')
      .map((line) => line.split('=')[0]);
    expect(new Set(names)).toEqual(new Set(['GIVEN', 'PWD']));
  });

  test('kills a child that runs for too long', async () => {
    expect(await excessOf(run('while :; do :; done', { timeoutMs: 100 }))).toBe('time');
  });

  test('kills a child that prints too much on either stream', async () => {
    expect(await excessOf(run('while :; do echo xxxxxxxxxxxxxxxx; done'))).toBe('output');
    expect(await excessOf(run('while :; do echo xxxxxxxxxxxxxxxx >&2; done'))).toBe('output');
  });

  test('gives a child no more memory than its limit', async () => {
    const eat = 'x=$(head -c 100000000 /dev/zero | tr "\\0" a); echo ${#x}';
    expect((await run(eat)).exitCode).not.toBe(0);
    expect((await run(eat, { memoryKib: 1_048_576 })).stdout).toBe('100000000\n');
  });

  test('passes arguments as they are', async () => {
    const command = ['/bin/echo', '$HOME', '`id`', "a'b", '-n'];
    expect((await runBoundedChild({ command, cwd: '/', env: {}, limits: LIMITS })).stdout).toBe(
      "$HOME `id` a'b -n\n",
    );
  });

  test('says with exit code 127 that there is no such program', async () => {
    const command = ['/nonexistent/program'];
    expect((await runBoundedChild({ command, cwd: '/', env: {}, limits: LIMITS })).exitCode).toBe(127);
  });
});
