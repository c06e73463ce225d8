import { afterEach, describe, expect, test } from 'bun:test';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { findTcpListeners } from './sock-diag.ts';
import { scanSocketHolders } from './socket-holders.ts';

const children: Bun.Subprocess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

describe('scanSocketHolders()', () => {
  test('finds every process that holds a socket, by a descriptor that is one', async () => {
    const program = [
      'use IO::Socket::IP; $| = 1;',
      'my $s = IO::Socket::IP->new(LocalHost => "127.0.0.1", Listen => 5) or die $@;',
      'my $pid = fork; if (!$pid) { <STDIN>; exit }',
      'print $s->sockport, " $pid ", fileno $s, "\\n"; <STDIN>;',
    ];
    const parent = Bun.spawn(['perl', '-e', program.join('\n')], { stdin: 'pipe', stdout: 'pipe' });
    children.push(parent);
    const { value } = await parent.stdout.getReader().read();
    const [port = 0, forked = 0, fd] = Buffer.from(value ?? [])
      .toString()
      .split(' ')
      .map(Number);
    const inode = findTcpListeners(port)[0]?.inode ?? 0;
    const { holders, isComplete } = scanSocketHolders(new Set([inode, 1]), { maxMs: 10_000, exceptPid: 0 });
    process.kill(forked, 'SIGKILL');
    expect(isComplete).toBe(true);
    expect(holders.toSorted((a, b) => a.pid - b.pid)).toEqual(
      [parent.pid, forked].toSorted((a, b) => a - b).map((pid) => ({ inode, pid, tid: pid, fd: fd ?? -1 })),
    );
  });

  test('leaves out the process that it is told to, and says when it had no time for all', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { readonly port: number };
    const inodes = new Set([findTcpListeners(port)[0]?.inode ?? 0]);
    const pidsOf = (exceptPid: number): readonly number[] =>
      scanSocketHolders(inodes, { maxMs: 10_000, exceptPid }).holders.map(({ pid }) => pid);
    expect(pidsOf(0)).toEqual([process.pid]);
    expect(pidsOf(process.pid)).toEqual([]);
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 3; i++) pidsOf(0);
    // Each scan opens a folder a process.
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 50);
    expect(scanSocketHolders(inodes, { maxMs: -1, exceptPid: 0 }).isComplete).toBe(false);
    server.close();
  });
});
