import { ptr } from 'bun:ffi';
import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { openSocketPair } from './socket-pair.ts';
import { SOL_SOCKET } from './socket-option.ts';

/** sendmsg(2) and recvmsg(2) of Linux. */
const MSG_CTRUNC = 0x8;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_NOSIGNAL = 0x4000;
const SCM_RIGHTS = 1;
const EAGAIN = 11;

/** In one packet. */
const MAX_DESCRIPTORS = 4;
/** struct cmsghdr: length u64 | level i32 | type i32, then the descriptors, each i32. */
const CONTROL_HEADER_BYTES = 16;
const CONTROL_BYTES = CONTROL_HEADER_BYTES + 4 * MAX_DESCRIPTORS;
/** struct iovec: address u64 | length u64 */
const VECTOR_BYTES = 16;
/** struct msghdr: name u64 | its length u32, padded | vectors u64 | their number u64 | control u64 | its length u64 | flags i32, padded */
const MESSAGE = { vectors: 16, count: 24, control: 32, controlLength: 40, flags: 48 } as const;
const MESSAGE_BYTES = 56;
/** What a packet carries beside descriptors: it must not be empty. */
const DATA_BYTES = 1;

const data = allocateNative(DATA_BYTES);
const control = allocateNative(CONTROL_BYTES);
const vector = allocateNative(VECTOR_BYTES);
const message = allocateNative(MESSAGE_BYTES);

/** The two ends of a way for descriptors from one process to another, which the caller owns. Throws as `openSocketPair`. */
export function openDescriptorWay(): { readonly near: number; readonly far: number } {
  const [near, far] = openSocketPair('packets');
  return { near, far };
}

/**
 * Sends descriptors in one packet; the other process gets descriptors of its own for the same files, and the caller keeps his. False where so much waits to be taken that nothing more fits. Throws `unavailable`,
 * reason `descriptor_passing`.
 */
export function sendDescriptors(way: number, descriptors: readonly number[]): boolean {
  if (descriptors.length === 0 || descriptors.length > MAX_DESCRIPTORS)
    throw new RangeError(`A packet has 1 to ${MAX_DESCRIPTORS} descriptors, not ${descriptors.length}`);
  const length = CONTROL_HEADER_BYTES + 4 * descriptors.length;
  prepareMessage(length);
  control.writeBigUInt64LE(BigInt(length), 0);
  control.writeInt32LE(SOL_SOCKET, 8);
  control.writeInt32LE(SCM_RIGHTS, 12);
  for (const [index, fd] of descriptors.entries()) control.writeInt32LE(fd, CONTROL_HEADER_BYTES + 4 * index);
  if (Number(libc().sendmsg(way, message, MSG_NOSIGNAL)) === DATA_BYTES) return true;
  const number = errno();
  if (number === EAGAIN) return false;
  throw failed(number);
}

/**
 * Takes the descriptors of the next packet, which the caller owns then. Throws as `sendDescriptors`, also where none waits or it is none of `sendDescriptors`; `resource_exhausted`, of the same reason, where this process may
 * not have so many open: the packet is taken all the same, and none of it is kept.
 */
export function receiveDescriptors(way: number): readonly number[] {
  prepareMessage(CONTROL_BYTES);
  const received = Number(libc().recvmsg(way, message, MSG_CMSG_CLOEXEC));
  if (received < 0) throw failed(errno());
  const length = Number(message.readBigUInt64LE(MESSAGE.controlLength));
  const isWhole = (message.readInt32LE(MESSAGE.flags) & MSG_CTRUNC) === 0;
  const descriptors = length < CONTROL_HEADER_BYTES + 4 ? [] : readDescriptors();
  if (!isWhole) {
    for (const fd of descriptors) libc().close(fd);
    throw new PicketError(
      'resource_exhausted',
      'descriptor_passing',
      'Cannot take all descriptors that were passed: too many are open',
    );
  }
  if (received !== DATA_BYTES || descriptors.length === 0) throw failed(0);
  return descriptors;
}

function readDescriptors(): readonly number[] {
  const count = Math.floor((Number(control.readBigUInt64LE(0)) - CONTROL_HEADER_BYTES) / 4);
  return Array.from({ length: count }, (_, index) => control.readInt32LE(CONTROL_HEADER_BYTES + 4 * index));
}

function prepareMessage(controlLength: number): void {
  vector.writeBigUInt64LE(BigInt(ptr(data)), 0);
  vector.writeBigUInt64LE(BigInt(DATA_BYTES), 8);
  message.fill(0);
  message.writeBigUInt64LE(BigInt(ptr(vector)), MESSAGE.vectors);
  message.writeBigUInt64LE(1n, MESSAGE.count);
  message.writeBigUInt64LE(BigInt(ptr(control)), MESSAGE.control);
  message.writeBigUInt64LE(BigInt(controlLength), MESSAGE.controlLength);
}

function failed(number: number): PicketError {
  const why = number === 0 ? 'it carries none' : errnoName(number);
  return new PicketError('unavailable', 'descriptor_passing', `Cannot pass descriptors: ${why}`);
}
