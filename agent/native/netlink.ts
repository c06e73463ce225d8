import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;

/** The kernel writes dump datagrams of at most 32 KiB. */
const ANSWER_BYTES = 32 * 1024;

const answer = allocateNative(ANSWER_BYTES);

/** One question to a family of netlink. */
export interface NetlinkQuestion {
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

/**
 * One question on a netlink socket of its own: an answer that was left unread could otherwise be taken for that of the next question, with
 * another socket's owner in it. `read` gets the datagrams of the answer, each good until the next: the kernel works within send and recv, so there is
 * always something to read until the answer is complete. Throws `unavailable` with the question's reason.
 */
export function askNetlink<T>(question: NetlinkQuestion, read: (receive: () => Buffer) => T): T {
  const { family, bytes, length } = question;
  const fd = libc().socket(AF_NETLINK, SOCK_RAW_NONBLOCK_CLOEXEC, family);
  if (fd < 0) throw netlinkError(question, errnoName(errno()));
  try {
    if (Number(libc().send(fd, bytes, length, 0)) !== length)
      throw netlinkError(question, errnoName(errno()));
    return read(() => {
      const received = Number(libc().recv(fd, answer, ANSWER_BYTES, 0));
      if (received < 0) throw netlinkError(question, errnoName(errno()));
      return answer.subarray(0, received);
    });
  } finally {
    libc().close(fd);
  }
}

/** The error of a question that has no answer. */
export function netlinkError(
  { reason, action }: Pick<NetlinkQuestion, 'reason' | 'action'>,
  why: string,
): PicketError {
  return new PicketError('unavailable', reason, `${action}: ${why}`);
}
