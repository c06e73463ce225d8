import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';

const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x40;
const EINTR = 4;
const EAGAIN = 11;

/** Looks at the bytes that wait on a socket without taking them, with one buffer for all sockets. */
export class Peeker {
  readonly #buffer: Buffer;

  /** `capacity` is the most that one look can see, in bytes. */
  constructor(capacity: number) {
    this.#buffer = allocateNative(capacity);
  }

  /**
   * The waiting bytes from the first on, undefined when there are none yet, empty when the peer has ended. The view is good until the next
   * call. Throws `unavailable`, reason `peek_failed`, when the connection is broken.
   */
  peek(fd: number): Buffer | undefined {
    const count = Number(libc().recv(fd, this.#buffer, this.#buffer.length, MSG_PEEK | MSG_DONTWAIT));
    if (count >= 0) return this.#buffer.subarray(0, count);
    const number = errno();
    if (number === EAGAIN || number === EINTR) return undefined;
    throw new PicketError('unavailable', 'peek_failed', `Cannot peek at a connection: ${errnoName(number)}`);
  }
}
