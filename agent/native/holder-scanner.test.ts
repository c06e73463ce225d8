import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { requireRoot } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { openHolderScanner, type HolderScanner } from './holder-scanner.ts';
import { findTcpListeners } from './sock-diag.ts';
import { scanSocketHolders } from './socket-holders.ts';

const children: Bun.Subprocess[] = [];

beforeAll(() => requireRoot('programs in the kernel'));
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

describe.each(['bpf_walk', 'bpf_iterator'] as const)('HolderScanner.scan() by %s', (kind) => {
  let scanner: HolderScanner;
  beforeAll(() => {
    scanner = openHolderScanner(kind);
  });
  afterAll(() => scanner.close());

  const scan = (
    inode: number,
  ): readonly { readonly pid: number; readonly tid: number; readonly fd: number }[] =>
    scanner
      .scan(new Set([inode]), process.pid)
      .holders.map(({ pid, tid, fd }) => ({ pid, tid, fd }))
      .toSorted((a, b) => a.pid - b.pid);

  test.each(['alone', 'threads'])('finds the one process that holds a socket: %s', async (mode) => {
    const { inode, fd, numbers } = await hold(mode);
    const [pid = 0] = numbers;
    expect(scan(inode)).toEqual([{ pid, tid: pid, fd }]);
    const { holders, isComplete } = scanner.scan(new Set([inode]), pid);
    expect({ holders, isComplete }).toEqual({ holders: [], isComplete: true });
  });

  test('finds a thread whose descriptor table is its own, which /proc does not show', async () => {
    const { inode, fd, numbers } = await hold('own-table');
    const [pid = 0, tid = 0] = numbers;
    expect(tid).not.toBe(pid);
    expect(scan(inode)).toEqual([{ pid, tid, fd }]);
    expect(scanSocketHolders(new Set([inode]), { maxMs: 10_000, exceptPid: 0 }).holders).toEqual([]);
  });

  test('finds who inherited a socket into pid, mount and network namespaces of his own', async () => {
    const { inode, fd, child } = await hold('inherited');
    const inside = await waitUntil('the child is there', () => childOf(child.pid));
    expect(scan(inode)).toEqual(
      [child.pid, inside].toSorted((a, b) => a - b).map((pid) => ({ pid, tid: pid, fd })),
    );
    const { holders } = scanSocketHolders(new Set([inode]), { maxMs: 10_000, exceptPid: 0 });
    expect(new Set(holders.map(({ pid }) => pid))).toEqual(new Set([child.pid, inside]));
  });

  test('finds to whom a socket was passed, and not who passed it', async () => {
    const { inode, fd, numbers, child } = await hold('passed');
    const [pid = 0] = numbers;
    expect(pid).not.toBe(child.pid);
    expect(scan(inode)).toEqual([{ pid, tid: pid, fd }]);
  });

  test('takes no socket of the file system for one of the network', async () => {
    const { inode, numbers } = await hold('path');
    expect(scan(inode)).toHaveLength(1);
    const [, inFileSystem = 0] = numbers;
    expect(inFileSystem).toBeGreaterThan(0);
    expect(scan(inFileSystem)).toEqual([]);
  });

  test('tells sockets apart that it is asked for at once, and forgets what it was asked before', async () => {
    const held = [await hold('alone'), await hold('alone'), await hold('alone')];
    const [first, second, third] = held;
    const asked = new Set([first?.inode ?? 0, second?.inode ?? 0]);
    const { holders } = scanner.scan(asked, process.pid);
    expect(new Map(holders.map(({ inode, pid }) => [inode, pid]))).toEqual(
      new Map(held.slice(0, 2).map(({ inode, numbers }) => [inode, numbers[0] ?? 0])),
    );
    // Every other inode of the same last bits is none of those.
    expect(scan((first?.inode ?? 0) + 65_536)).toEqual([]);
    expect(scan(third?.inode ?? 0)).toHaveLength(1);
  });

  test('says when it could not write down all', async () => {
    const { inode } = await hold('many');
    expect(scanner.scan(new Set([inode]), process.pid).isComplete).toBe(false);
    expect(scanner.scan(new Set([1]), process.pid).isComplete).toBe(true);
  });

  test('the walk stamps a process anew with each exec, user, group and namespace, and the iterator not at all', async () => {
    const { inode, child } = await hold('changing');
    const stampOf = (): string | undefined => scanner.scan(new Set([inode]), process.pid).holders[0]?.stamp;
    if (kind === 'bpf_iterator') return expect(stampOf()).toBeUndefined();
    const stamps = [stampOf()];
    expect(stampOf()).toBe(stamps[0]);
    const changes = ['exec', 'exec', 'groups 7', 'groups 8', 'groups 8 7', 'mounts', 'group 9', 'user 4242'];
    for (const change of [...changes, 'users']) {
      void child.stdin.write(`${change}\n`);
      await child.stdin.flush();
      await nextNumbers(child);
      stamps.push(stampOf());
    }
    expect(stamps).not.toContain(undefined);
    expect(new Set(stamps).size).toBe(stamps.length);
  });

  test('is of no use once it is closed', () => {
    const closed = openHolderScanner(kind);
    closed.close();
    closed.close();
    expect(() => closed.scan(new Set([1]), 0)).toThrow('closed');
  });
});

type Child = Bun.Subprocess<'pipe', 'pipe', 'inherit'>;

interface Held {
  readonly inode: number;
  readonly fd: number;
  readonly numbers: readonly number[];
  readonly child: Child;
}

/** A listener that is held in one of the ways of `hold-socket.py`. */
async function hold(mode: string): Promise<Held> {
  const program = join(import.meta.dirname, 'fixtures/hold-socket.py');
  const child = Bun.spawn(['/usr/bin/python3', program, mode], { stdin: 'pipe', stdout: 'pipe' });
  children.push(child);
  const [port = 0, fd = -1, ...numbers] = await nextNumbers(child);
  return { inode: findTcpListeners(port)[0]?.inode ?? 0, fd, numbers, child };
}

async function nextNumbers(child: Child): Promise<readonly number[]> {
  const reader = child.stdout.getReader();
  let line = '';
  while (!line.endsWith('\n')) {
    const { value, done } = await reader.read();
    if (done) throw new Error('The program ended');
    line += Buffer.from(value).toString();
  }
  reader.releaseLock();
  return line.trim().split(' ').map(Number);
}

async function childOf(pid: number): Promise<number | undefined> {
  const text = await Bun.file(`/proc/${pid}/task/${pid}/children`).text();
  return text.trim() === '' ? undefined : Number(text.trim());
}
