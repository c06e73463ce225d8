import { PicketError } from '../../shared/errors/errors.ts';
import { descriptorReserve } from './descriptor-reserve.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';

/** socket(2) domain, types and flags of Linux. */
const AF_UNIX = 1;
const SOCK_TYPES = { stream: 1, packets: 5 } as const;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

const INTEGER_BYTES = 4;
const pair = allocateNative(2 * INTEGER_BYTES);

/**
 * Two sockets that are connected with each other and have no name, so that nobody else can reach them; non-blocking, close-on-exec. `packets` keep what was sent at once apart (SOCK_SEQPACKET). The caller owns both. Neither takes a
 * descriptor of the reserve. Throws `unavailable`, reason `socket_pair_failed`.
 */
export function openSocketPair(kind: keyof typeof SOCK_TYPES = 'stream'): readonly [number, number] {
  const type = SOCK_TYPES[kind] | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (libc().socketpair(AF_UNIX, type, 0, pair) !== 0) throw failed(errnoName(errno()));
  const [one, other] = [pair.readInt32LE(0), pair.readInt32LE(INTEGER_BYTES)];
  const reserve = descriptorReserve();
  if (reserve.admits(one) && reserve.admits(other)) return [one, other];
  libc().close(one);
  libc().close(other);
  throw failed('EMFILE');
}

function failed(why: string): PicketError {
  return new PicketError('unavailable', 'socket_pair_failed', `Cannot make a pair of sockets: ${why}`);
}
