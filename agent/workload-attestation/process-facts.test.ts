import { afterEach, describe, expect, test } from 'bun:test';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from '../../tests/kit/wait.ts';
import { isSameProgram, isUnchanged, parseStat, parseStatus, readProcessFacts } from './process-facts.ts';

const children: Bun.Subprocess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

describe('readProcessFacts()', () => {
  test('tells the start time, the users, the groups and the program of this process', () => {
    const facts = readProcessFacts(process.pid);
    expect(facts).toMatchObject({ pid: process.pid, executablePath: process.execPath });
    expect(facts?.uids).toEqual(Array.from({ length: 4 }, () => process.getuid?.() ?? -1));
    expect(facts?.startTime).toBeGreaterThan(0n);
    expect(facts?.mountNamespace).toMatch(/^mnt:\[\d+\]$/);
  });

  test('tells nothing of a process that does not exist, or that has ended and was not yet reaped', async () => {
    expect(readProcessFacts(4_194_305)).toBeUndefined();
    const program =
      'import os, time; child = os.fork(); child or os._exit(0); print(child, flush=True); time.sleep(60)';
    const parent = start(['/usr/bin/python3', '-c', program]);
    const zombie = Number(await firstLine(parent));
    await waitUntil('the child is a zombie', async () => {
      return (await Bun.file(`/proc/${zombie}/stat`).text()).includes(') Z ');
    });
    expect(readProcessFacts(zombie)).toBeUndefined();
  });

  test('a process cannot choose its user by its name', async () => {
    const program = String.raw`$| = 1; $0 = "\rUid:\t0\t0\t0\t0"; print "named\n"; <STDIN>`;
    const child = start(['setpriv', '--reuid=4242', '--clear-groups', 'perl', '-e', program]);
    expect(await firstLine(child)).toBe('named');
    expect(await Bun.file(`/proc/${child.pid}/status`).text()).toContain('\rUid:\t0\t0\t0\t0\n');
    expect(readProcessFacts(child.pid)?.uids).toEqual([4242, 4242, 4242, 4242]);
  });
});

describe('isSameProgram()', () => {
  test('outlives the file of the program', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'picket-same-program-'));
    const program = join(folder, 'sleep');
    copyFileSync('/bin/sleep', program);
    const { pid } = start([program, '60']);
    const facts = await waitUntil('it runs', () => {
      const found = readProcessFacts(pid);
      return found?.executablePath === program && found;
    });
    rmSync(folder, { recursive: true });
    expect(isUnchanged(facts)).toBe(false);
    expect(isSameProgram(facts)).toBe(true);
  });

  test('is false after an exec, even of the same program', async () => {
    const child = start(['bash', '-c', 'echo first; read; exec bash -c "echo second; read"']);
    expect(await firstLine(child)).toBe('first');
    const facts = await waitUntil('it runs', () => readProcessFacts(child.pid));
    expect(isSameProgram(facts)).toBe(true);
    void child.stdin.write('\n');
    await child.stdin.flush();
    await waitUntil('the program is replaced', () => !isSameProgram(facts));
  });
});

describe('isUnchanged()', () => {
  test('notices an exec, even of the same program', async () => {
    const child = start(['bash', '-c', 'echo first; read; exec bash -c "echo second; read"']);
    expect(await firstLine(child)).toBe('first');
    const facts = readProcessFacts(child.pid);
    if (facts === undefined) throw new Error('The process is gone');
    expect(isUnchanged(facts)).toBe(true);
    void child.stdin.write('\n');
    await child.stdin.flush();
    await waitUntil('the program is replaced', () => !isUnchanged(facts));
    const after = readProcessFacts(child.pid);
    expect(after).toMatchObject({ startTime: facts.startTime, executablePath: facts.executablePath });
  });

  test('is false once the process has ended', async () => {
    const child = start(['cat']);
    const facts = await waitUntil('it runs', () => readProcessFacts(child.pid));
    child.kill('SIGKILL');
    await child.exited;
    expect(isUnchanged(facts)).toBe(false);
  });
});

describe('parseStat()', () => {
  const fields = (state: string): string =>
    `${state} ${Array.from({ length: 49 }, (_, i) => i + 4).join(' ')}`;

  test('is not misled by the name of the program', () => {
    const parsed = parseStat(`7 (a) R 1 (b)) ${fields('S')}\n`);
    expect(parsed).toEqual({ startTime: 22n, addresses: '26 27 28' });
  });

  test.each(['', '7', '7 (name)', '7 (name) S 1 2', `7 (name) ${fields('Z')}`, `7 (name) ${fields('X')}`])(
    'tells nothing of %j',
    (text) => {
      expect(parseStat(text)).toBeUndefined();
    },
  );
});

describe('parseStatus()', () => {
  test('reads the four users, the four groups and the supplementary ones', () => {
    expect(parseStatus('Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n')).toEqual({
      uids: [1, 2, 3, 4],
      gids: [5, 6, 7, 8],
      groups: [9, 10],
    });
  });

  test.each([
    '',
    'Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n',
    'Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\nGroups:\t\n',
    'Uid:\t1\t2\t3\tx\nGid:\t5\t6\t7\t8\nGroups:\t\n',
    'Name:\tUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\n',
  ])('tells nothing of %j', (text) => {
    expect(parseStatus(text)).toBeUndefined();
  });
});

function start(command: readonly string[]): Bun.Subprocess<'pipe', 'pipe', 'inherit'> {
  const child = Bun.spawn([...command], { stdin: 'pipe', stdout: 'pipe' });
  children.push(child);
  return child;
}

async function firstLine(child: Bun.Subprocess<'pipe', 'pipe', 'inherit'>): Promise<string> {
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return Buffer.from(value ?? [])
    .toString()
    .trim();
}
