import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { UnixAcceptor } from '../../tests/kit/unix-acceptor.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { hasPeerPidfd, openPeer, parseStartTime } from './peer.ts';

let acceptor: UnixAcceptor;

beforeAll(async () => {
  acceptor = await UnixAcceptor.open();
});

afterAll(() => acceptor.close());

/** Connects, leaves the socket to a child and ends: what a daemon does, or who wishes to be taken for another process. */
const HAND_OVER = `
use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
<STDIN>;
exit 0 if fork;
setpgrp; <$socket>;
`;

async function handOver(child: Bun.Subprocess): Promise<void> {
  const stdin = child.stdin as Bun.FileSink;
  await stdin.write('\n');
  await stdin.end();
  await child.exited;
}

describe.each([
  ['a kernel with SO_PEERPIDFD', release()],
  ['an older kernel', '6.1.0-18-amd64'],
])('on %s', (_name, kernel) => {
  test('openPeer() names the process that connected, until it ends', async () => {
    const { child, socket, fd } = await acceptor.acceptFrom(['nc', '-U', acceptor.path]);
    const peer = openPeer(fd, kernel);
    expect(peer).toMatchObject({ pid: child.pid, uid: 0 });
    expect(peer!.isAlive()).toBe(true);
    child.kill('SIGKILL');
    await child.exited;
    expect(peer!.isAlive()).toBe(false);
    peer!.close();
    socket.destroy();
  });

  test('openPeer() does not take a process that inherited the socket for the one that connected', async () => {
    const { child, socket, fd } = await acceptor.acceptFrom(['perl', '-e', HAND_OVER, acceptor.path]);
    const peer = openPeer(fd, kernel);
    expect(peer!.isAlive()).toBe(true);
    await handOver(child);
    expect(peer!.isAlive()).toBe(false);
    expect(socket.destroyed).toBe(false);
    peer!.close();
    socket.destroy();
  });

  test('openPeer() finds nobody once the process that connected has ended', async () => {
    const { child, socket, fd } = await acceptor.acceptFrom(['perl', '-e', HAND_OVER, acceptor.path]);
    await handOver(child);
    await waitUntil('the process is reaped', () => openPeer(fd, kernel) === undefined);
    socket.destroy();
  });

  test('close() of a peer leaves nothing that says it lives', async () => {
    const { child, socket, fd } = await acceptor.acceptFrom(['nc', '-U', acceptor.path]);
    const peer = openPeer(fd, kernel)!;
    peer.close();
    peer.close();
    expect(peer.isAlive()).toBe(false);
    child.kill();
    await child.exited;
    socket.destroy();
  });
});

test('openPeer() names nobody on a descriptor that is no socket', () => {
  expect(openPeer(-1, release())).toBeUndefined();
});

test.each([
  ['6.4.16', false],
  ['5.19.0', false],
  ['6.1.0-18-amd64', false],
  ['6.5.0', true],
  ['6.18.5', true],
  ['7.0', true],
  ['', false],
  ['nonsense', false],
])('hasPeerPidfd() of kernel "%s" is %s', (kernel, expected) => {
  expect(hasPeerPidfd(kernel)).toBe(expected);
});

test('parseStartTime() reads field 22, whatever the program calls itself', () => {
  const own = readFileSync('/proc/self/stat', 'utf8');
  expect(parseStartTime(own)).toMatch(/^\d+$/);
  const renamed = own.replace(/\(.*\)/, '(a) R 1 (b c)');
  expect(parseStartTime(renamed)).toBe(parseStartTime(own));
});

test.each(['', '1', '1 (a', '1 (a) R 1 2', `1 (a) R ${'x '.repeat(40)}`])(
  'parseStartTime() finds nothing in "%s"',
  (text) => {
    expect(parseStartTime(text)).toBeUndefined();
  },
);
