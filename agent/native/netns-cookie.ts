import { PicketError } from '../../shared/errors/errors.ts';
import { errno, errnoName, libc } from './libc.ts';
import { AF_INET } from './sockaddr.ts';
import { readSocketOption, SOL_SOCKET } from './socket-option.ts';

const SO_NETNS_COOKIE = { level: SOL_SOCKET, name: 71 };
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

/** The number of this process's network namespace, which no other has while the machine runs. Throws `unavailable`, reason `netns_cookie`, before Linux 5.14. */
export function readNetnsCookie(): bigint {
  const fd = libc().socket(AF_INET, SOCK_STREAM_CLOEXEC, 0);
  const cookie = fd < 0 ? undefined : readSocketOption(fd, SO_NETNS_COOKIE, 8)?.readBigUInt64LE(0);
  const why = errnoName(errno());
  if (fd >= 0) libc().close(fd);
  if (cookie !== undefined) return cookie;
  throw new PicketError('unavailable', 'netns_cookie', `Cannot tell the network namespace: ${why}`);
}
