import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { inNamespace, type InNamespace } from './network-namespace.ts';

const AF_NETLINK = 16;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;

/** The kernel writes dump datagrams of at most 32 KiB. */
const ANSWER_BYTES = 32 * 1024;
const MAX_SEQUENCE = 0xffffffff;

/** struct sockaddr_nl: family u16 | 0 u16 | port id u32, 0 for the kernel | groups u32 */
const SOCKADDR_NL_BYTES = 12;
const kernelAddress = allocateNative(SOCKADDR_NL_BYTES);
const answer = allocateNative(ANSWER_BYTES);

/** The sockets of the agent's own namespace, by family, as long as every answer on them was read to its end. */
const ownSockets = new Map<number, number>();
const lastSequences = new Map<number, number>();

/** One question to a family of netlink, about one network namespace. */
export interface NetlinkQuestion extends InNamespace {
  /** NETLINK_SOCK_DIAG, NETLINK_NETFILTER and the like. */
  readonly family: number;
  /** Of `allocateNative`. */
  readonly bytes: Buffer;
  readonly length: number;
  /** Reason of the error where the kernel cannot be asked. */
  readonly reason: string;
  /** What is being done, as the error's message begins. */
  readonly action: string;
}

/** The number for the next question to a family. None comes twice on a socket, but in other namespaces after four thousand million. */
export function nextSequence(family: number): number {
  const last = lastSequences.get(family) ?? 0;
  if (last === MAX_SEQUENCE) closeSocket(ownSockets, family);
  const next = last === MAX_SEQUENCE ? 1 : last + 1;
  lastSequences.set(family, next);
  return next;
}

/**
 * One question, with a number of `nextSequence`. An answer that was left unread could be taken for that of the next question, with another socket's owner
 * in it. So `read` counts only what bears the question's number, and reads the answer to its end; where it throws or returns undefined, the
 * socket is closed, and another one serves the next question. It gets the datagrams of the answer, each good until the next: the kernel works within send and
 * recv, so there is always something to read until the answer is complete. Throws `unavailable` with the question's reason.
 */
export function askNetlink<T>(question: NetlinkQuestion, read: (receive: () => Buffer) => T): T {
  const { family, bytes, length, namespace } = question;
  const sockets = namespace?.netlinkSockets ?? ownSockets;
  const fd = sockets.get(family) ?? openSocket(sockets, question);
  let value: T | undefined;
  try {
    if (Number(libc().send(fd, bytes, length, 0)) !== length)
      throw netlinkError(question, errnoName(errno()));
    value = read(() => {
      const received = Number(libc().recv(fd, answer, ANSWER_BYTES, 0));
      if (received < 0) throw netlinkError(question, errnoName(errno()));
      return answer.subarray(0, received);
    });
    return value;
  } finally {
    if (value === undefined) closeSocket(sockets, family);
  }
}

/** The error of a question that has no answer. */
export function netlinkError(
  { reason, action }: Pick<NetlinkQuestion, 'reason' | 'action'>,
  why: string,
): PicketError {
  return new PicketError('unavailable', reason, `${action}: ${why}`);
}

/** A netlink socket that takes nothing from anybody but the kernel; the caller owns it. Throws as `askNetlink`. */
export function openNetlinkSocket(
  question: Pick<NetlinkQuestion, 'family' | 'reason' | 'action' | 'namespace'>,
): number {
  const fd = inNamespace(question, () =>
    libc().socket(AF_NETLINK, SOCK_RAW_NONBLOCK_CLOEXEC, question.family),
  );
  if (fd < 0) throw netlinkError(question, errnoName(errno()));
  kernelAddress.writeUInt16LE(AF_NETLINK, 0);
  if (libc().connect(fd, kernelAddress, SOCKADDR_NL_BYTES) === 0) return fd;
  const why = errnoName(errno());
  libc().close(fd);
  throw netlinkError(question, why);
}

function openSocket(sockets: Map<number, number>, question: NetlinkQuestion): number {
  const fd = openNetlinkSocket(question);
  sockets.set(question.family, fd);
  return fd;
}

function closeSocket(sockets: Map<number, number>, family: number): void {
  const fd = sockets.get(family);
  if (fd !== undefined) libc().close(fd);
  sockets.delete(family);
}
