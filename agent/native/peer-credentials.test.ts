import { afterAll, beforeAll, expect, test } from 'bun:test';
import { UnixAcceptor } from '../../tests/kit/unix-acceptor.ts';
import { closeDescriptor } from './dial.ts';
import { findPeerCredentials, isPidfdAlive, openPeerPidfd } from './peer-credentials.ts';

let acceptor: UnixAcceptor;

beforeAll(async () => {
  acceptor = await UnixAcceptor.open();
});

afterAll(() => acceptor.close());

test('findPeerCredentials() names the process that connected, with its uid and gid', async () => {
  const { child, socket, fd } = await acceptor.acceptFrom(['nc', '-U', acceptor.path]);
  expect(findPeerCredentials(fd)).toEqual({
    pid: child.pid,
    uid: process.getuid!(),
    gid: process.getgid!(),
  });
  child.kill();
  socket.destroy();
});

test('isPidfdAlive() is false once the process of openPeerPidfd() has ended', async () => {
  const { child, socket, fd } = await acceptor.acceptFrom(['nc', '-U', acceptor.path]);
  const pidfd = openPeerPidfd(fd);
  expect(pidfd).toBeDefined();
  expect(isPidfdAlive(pidfd!)).toBe(true);
  child.kill('SIGKILL');
  await child.exited;
  expect(isPidfdAlive(pidfd!)).toBe(false);
  closeDescriptor(pidfd!);
  socket.destroy();
});

test('findPeerCredentials() names nobody on a descriptor that is no socket', () => {
  expect(findPeerCredentials(-1)).toBeUndefined();
  expect(openPeerPidfd(-1)).toBeUndefined();
});
