import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../shared/runtime/clock.ts';
import { run, runOk } from '../../tests/kit/child.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { findTcpListeners } from '../native/sock-diag.ts';
import { HoldingProgram } from './fixtures/holding-program.ts';
import { openTestFinder } from './fixtures/open-test-finder.ts';
import { describeHolderFinder } from './holder-finder-contract.ts';
import { createThreadHolderFinder } from './thread-holder-finder.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-holders-'));
const programs: HoldingProgram[] = [];

afterEach(async () => {
  for (const program of programs.splice(0)) await program.end();
});
afterAll(() => rmSync(folder, { recursive: true }));

describeHolderFinder('proc', () => openTestFinder('proc'));

describe('createThreadHolderFinder()', () => {
  test('find() gives up a thread that does not answer in time, and goes on with a new one', async () => {
    const clock = new FakeClock();
    const finder = createThreadHolderFinder(clock);
    try {
      const { inode, pid } = await listen();
      const late = refusalOf(finder.find(new Set([inode])));
      clock.advance(10_000);
      expect(await late).toMatchObject({ code: 'unavailable', reason: 'holder_scan_failed' });
      expect((await finder.find(new Set([inode]))).get(inode)).toMatchObject({ holders: [{ pid }] });
      expect(clock.pending).toBe(0);
    } finally {
      finder.close();
    }
  });

  test('find() refuses more than it can answer', async () => {
    const finder = createThreadHolderFinder(new FakeClock());
    const asked = Array.from({ length: 4_098 }, () => refusalOf(finder.find(new Set([1]))));
    finder.close();
    const reasons = new Set((await Promise.all(asked)).map(({ reason }) => reason));
    expect([...reasons].toSorted()).toEqual(['holder_scan_failed', 'holder_scan_limit']);
  });

  test('close() refuses what is under way and all that comes', async () => {
    const finder = createThreadHolderFinder(systemClock);
    const running = refusalOf(finder.find(new Set([1])));
    const waiting = refusalOf(finder.find(new Set([1])));
    finder.close();
    for (const refusal of [running, waiting, refusalOf(finder.find(new Set([1])))])
      expect((await refusal).reason).toBe('holder_scan_failed');
  });

  test('the thread is found inside of an executable', async () => {
    const root = join(import.meta.dirname, '../..');
    const executable = join(folder, 'find-own-listener');
    await runOk(
      [
        process.execPath,
        'build',
        '--compile',
        '--bytecode',
        '--format=esm',
        '--minify',
        `--root=${root}`,
        join(import.meta.dirname, 'fixtures/find-own-listener.ts'),
        join(import.meta.dirname, 'holder-scan/main.ts'),
        `--outfile=${executable}`,
      ],
      { cwd: root, withinMs: 60_000 },
    );
    const { port, pid } = await listen();
    const { stdout, stderr } = await run([executable, String(port)], { cwd: '/' });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual([pid]);
  });
});

async function listen(): Promise<{ pid: number; port: number; fd: number; inode: number }> {
  const program = new HoldingProgram();
  programs.push(program);
  const { port, fd } = await program.open('listen', '127.0.0.1');
  return { pid: program.pid, port, fd, inode: findTcpListeners(port)[0]?.inode ?? 0 };
}
