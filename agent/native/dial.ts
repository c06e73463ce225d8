import { PicketError } from '../../shared/errors/errors.ts';
import { descriptorReserve } from './descriptor-reserve.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { boundBuffers } from './bounded-buffers.ts';
import { bindToClient } from './client-bind.ts';
import { setKeepalive } from './keepalive.ts';
import { inNamespace, type InNamespace } from './network-namespace.ts';
import { AF_INET, AF_INET6, encodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';
import { IPPROTO_TCP, readSocketOption, setIntegerOption, SOL_SOCKET } from './socket-option.ts';

/** socket(2) types and flags of Linux. */
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const EINPROGRESS = 115;
const EMFILE = 24;

const SO_ERROR = { level: SOL_SOCKET, name: 4 };
const SO_MARK = { level: SOL_SOCKET, name: 36, what: 'SO_MARK' };
const TCP_NODELAY = { level: IPPROTO_TCP, name: 1, what: 'TCP_NODELAY' };

/** A silent peer is given up after 30 s of silence and four probes, 10 s apart. */
const KEEPALIVE = { idleSeconds: 30, intervalSeconds: 10, probes: 4 };

const sockaddr = allocateNative(SOCKADDR_IN6_BYTES);

/** Where to, from which network namespace, and the mark by which capture lets the connection pass; 0 sets none and needs no privilege. */
export interface DialTarget extends SocketAddress, InNamespace {
  readonly mark: number;
  /** An address that is not this host's, from which the connection is made; of the family of the target. Only as `dialAsClient` does it do answers come back. */
  readonly client?: string | undefined;
}

/**
 * Starts a TCP connection and returns its descriptor, which the caller owns: non-blocking, close-on-exec, without Nagle's delay, with keepalive.
 * Whether it was accepted shows later: when the socket becomes writable, `socketError` tells. Every connection that the
 * agent makes starts here, so that none is captured by our own rules. Throws `unavailable`, reason `dial_failed`, when it cannot
 * even start (no route, no descriptor left), and `socket_option` when the mark is refused.
 */
export function dialMarked(target: DialTarget): number {
  const length = encodeSockaddr(sockaddr, target);
  const family = sockaddr.readUInt16LE(0) === AF_INET ? AF_INET : AF_INET6;
  const fd = inNamespace(target, () => libc().socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd < 0) throw dialError(target, errno());
  try {
    if (target.mark !== 0) setIntegerOption(fd, SO_MARK, target.mark);
    setUpTcp(fd);
    boundBuffers(fd, target);
    if (target.client !== undefined) bindToClient(fd, target.client);
    startConnect(fd, target, length);
  } catch (error) {
    libc().close(fd);
    throw error;
  }
  return fd;
}

/** As `dialMarked`, for connections that carry traffic: none takes a descriptor of the reserve. Throws as that, `dial_failed` with EMFILE too. */
export function dialForTraffic(target: DialTarget): number {
  const fd = dialMarked(target);
  if (descriptorReserve().admits(fd)) return fd;
  libc().close(fd);
  throw dialError(target, EMFILE);
}

/** Takes the pending error of a socket, as a symbol such as `ECONNREFUSED`; undefined when there is none. Reading clears it. */
export function socketError(fd: number): string | undefined {
  const error = readSocketOption(fd, SO_ERROR, 4);
  if (error === undefined) return errnoName(errno());
  const number = error.readInt32LE(0);
  return number === 0 ? undefined : errnoName(number);
}

/** Closes a descriptor that nobody else owns, such as one from `dialMarked` that was not handed on. */
export function closeDescriptor(fd: number): void {
  libc().close(fd);
}

function setUpTcp(fd: number): void {
  setIntegerOption(fd, TCP_NODELAY, 1);
  setKeepalive(fd, KEEPALIVE);
}

function startConnect(fd: number, target: DialTarget, length: number): void {
  if (libc().connect(fd, sockaddr, length) === 0) return;
  const number = errno();
  if (number !== EINPROGRESS) throw dialError(target, number);
}

function dialError({ address, port }: DialTarget, number: number): PicketError {
  const host = address.includes(':') ? `[${address}]` : address;
  return new PicketError(
    'unavailable',
    'dial_failed',
    `Cannot connect to ${host}:${port}: ${errnoName(number)}`,
  );
}
