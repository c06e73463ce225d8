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
import { createHolderFinder } from './holder-finder.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-holders-'));
const programs: HoldingProgram[] = [];

afterEach(async () => {
  for (const program of programs.splice(0)) await program.end();
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('createHolderFinder()', () => {
  test('find() gives each caller the holders of its own sockets, however many ask at once', async () => {
    const finder = createHolderFinder(systemClock);
    try {
      const listeners = await Promise.all(Array.from({ length: 5 }, listen));
      const asked = Array.from({ length: 200 }, (_, i) => listeners[i % listeners.length]);
      const answers = await Promise.all(asked.map((listener) => finder.find([listener?.inode ?? 0])));
      for (const [i, holders] of answers.entries()) {
        const { inode, pid, fd } = asked[i] ?? {};
        expect(holders).toEqual([{ inode: inode ?? 0, pid: pid ?? 0, tid: pid ?? 0, fd: fd ?? 0 }]);
      }
      const [first, second] = listeners;
      const both = await finder.find([first?.inode ?? 0, second?.inode ?? 0]);
      expect(new Set(both.map(({ pid }) => pid))).toEqual(new Set([first?.pid ?? 0, second?.pid ?? 0]));
    } finally {
      finder.close();
    }
  });

  test('find() gives up a thread that does not answer in time, and goes on with a new one', async () => {
    const clock = new FakeClock();
    const finder = createHolderFinder(clock);
    try {
      const { inode, pid } = await listen();
      const late = refusalOf(finder.find([inode]));
      clock.advance(10_000);
      expect(await late).toMatchObject({ code: 'unavailable', reason: 'holder_scan_failed' });
      expect((await finder.find([inode])).map((holder) => holder.pid)).toEqual([pid]);
      expect(clock.pending).toBe(0);
    } finally {
      finder.close();
    }
  });

  test('find() refuses more than it can answer', async () => {
    const finder = createHolderFinder(new FakeClock());
    const asked = Array.from({ length: 4_098 }, () => refusalOf(finder.find([1])));
    finder.close();
    const reasons = new Set((await Promise.all(asked)).map(({ reason }) => reason));
    expect([...reasons].toSorted()).toEqual(['holder_scan_failed', 'holder_scan_limit']);
  });

  test('close() refuses what is under way and all that comes', async () => {
    const finder = createHolderFinder(systemClock);
    const running = refusalOf(finder.find([1]));
    const waiting = refusalOf(finder.find([1]));
    finder.close();
    for (const refusal of [running, waiting, refusalOf(finder.find([1]))])
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
