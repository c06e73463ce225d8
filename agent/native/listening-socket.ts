import { PicketError } from '../../shared/errors/errors.ts';
import { boundBuffers } from './bounded-buffers.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { inNamespace, type InNamespace } from './network-namespace.ts';
import { AF_INET, AF_INET6, decodeSockaddr, encodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import type { SocketAddress } from './socket-address.ts';
import { IPPROTO_TCP, readSocketOption, setIntegerOption, SOL_IPV6, SOL_SOCKET } from './socket-option.ts';

/** socket(2) types and flags of Linux. */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

const SO_REUSEADDR = { level: SOL_SOCKET, name: 2, what: 'SO_REUSEADDR' };
const SO_REUSEPORT = { level: SOL_SOCKET, name: 15, what: 'SO_REUSEPORT' };
const SO_MARK = { level: SOL_SOCKET, name: 36, what: 'SO_MARK' };
const SO_ACCEPTCONN = { level: SOL_SOCKET, name: 30 };
const SO_PROTOCOL = { level: SOL_SOCKET, name: 38 };
const IPV6_V6ONLY = { level: SOL_IPV6, name: 26, what: 'IPV6_V6ONLY' };

/** Connections that wait to be accepted; the kernel takes `net.core.somaxconn` where that is less. */
const BACKLOG = 4096;
/** struct sockaddr_un: family u16, then the path with a zero behind it. */
const SOCKADDR_UN_BYTES = 110;
const MAX_PATH_BYTES = SOCKADDR_UN_BYTES - 3;

const sockaddr = allocateNative(SOCKADDR_UN_BYTES);
const length = allocateNative(4);

export interface ListenerOptions extends InNamespace {
  /** Others of the same user that say so as well listen there too, and the kernel gives each connection to one of them. */
  readonly sharesPort?: boolean;
  /** Of what the listener answers, and of the connections that it accepts; 0 sets none and needs no privilege. */
  readonly mark?: number;
}

/**
 * Listens on one address, `::` for both families, and returns the descriptor, which the caller owns: non-blocking, close-on-exec. Unlike a socket that Bun opens it can
 * be given to another process. Throws `unavailable`, reason `listen_failed`.
 */
export function openTcpListener(
  at: SocketAddress,
  { sharesPort = false, mark = 0, namespace }: ListenerOptions = {},
): number {
  const bytes = encodeSockaddr(sockaddr, at);
  const family = sockaddr.readUInt16LE(0) === AF_INET ? AF_INET : AF_INET6;
  const where = at.address.includes(':') ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`;
  return open({ family, where, namespace }, (fd) => {
    setIntegerOption(fd, SO_REUSEADDR, 1);
    boundBuffers(fd, { namespace });
    if (mark !== 0) setIntegerOption(fd, SO_MARK, mark);
    if (sharesPort) setIntegerOption(fd, SO_REUSEPORT, 1);
    if (family === AF_INET6) setIntegerOption(fd, IPV6_V6ONLY, 0);
    encodeSockaddr(sockaddr, at);
    return bytes;
  });
}

/** Others of the same user may listen there too from now on, as with `sharesPort`. Throws `unavailable`, reason `socket_option`. */
export function sharePort(fd: number): void {
  setIntegerOption(fd, SO_REUSEPORT, 1);
}

/** Listens at a path that is free, as `openTcpListener`. Who may connect is the umask's to say until the file gets its mode. */
export function openUnixListener(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_PATH_BYTES) throw listenFailed(path, `it is longer than ${MAX_PATH_BYTES} bytes`);
  return open({ family: AF_UNIX, where: path }, () => {
    sockaddr.fill(0);
    sockaddr.writeUInt16LE(AF_UNIX, 0);
    sockaddr.set(bytes, 2);
    return 2 + bytes.length + 1;
  });
}

/** Where a listening TCP socket listens; undefined for a descriptor that is none. */
export function findTcpListener(fd: number): SocketAddress | undefined {
  if (!isListening(fd) || readSocketOption(fd, SO_PROTOCOL, 4)?.readInt32LE(0) !== IPPROTO_TCP)
    return undefined;
  const bytes = readName(fd);
  return bytes === undefined ? undefined : decodeSockaddr(bytes.subarray(0, SOCKADDR_IN6_BYTES));
}

/** The path at which a listening unix socket listens; undefined for a descriptor that is none. */
export function findUnixListener(fd: number): string | undefined {
  if (!isListening(fd)) return undefined;
  const bytes = readName(fd);
  if (bytes === undefined || bytes.readUInt16LE(0) !== AF_UNIX) return undefined;
  const path = bytes.subarray(2);
  const end = path.indexOf(0);
  return path.subarray(0, end < 0 ? path.length : end).toString();
}

function open(
  socket: { readonly family: number; readonly where: string } & InNamespace,
  fillAddress: (fd: number) => number,
): number {
  const { family, where } = socket;
  const fd = inNamespace(socket, () => libc().socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd < 0) throw listenFailed(where, errnoName(errno()));
  try {
    const bytes = fillAddress(fd);
    if (libc().bind(fd, sockaddr, bytes) !== 0) throw listenFailed(where, errnoName(errno()));
    if (libc().listen(fd, BACKLOG) !== 0) throw listenFailed(where, errnoName(errno()));
  } catch (error) {
    libc().close(fd);
    throw error;
  }
  return fd;
}

/** Whether a descriptor is of a socket that listens: false for ever once somebody has ended it by SOCK_DESTROY of sock_diag(7), as whoever has CAP_NET_ADMIN in its network namespace can. */
export function isListening(fd: number): boolean {
  return readSocketOption(fd, SO_ACCEPTCONN, 4)?.readInt32LE(0) === 1;
}

function readName(fd: number): Buffer | undefined {
  length.writeUInt32LE(SOCKADDR_UN_BYTES, 0);
  if (libc().getsockname(fd, sockaddr, length) !== 0) return undefined;
  return sockaddr.subarray(0, Math.min(SOCKADDR_UN_BYTES, length.readUInt32LE(0)));
}

function listenFailed(where: string, why: string): PicketError {
  return new PicketError('unavailable', 'listen_failed', `Cannot listen on ${where}: ${why}`);
}
