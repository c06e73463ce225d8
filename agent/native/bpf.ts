import { ptr, toArrayBuffer } from 'bun:ffi';
import { bpf, bpfUnavailable as unavailable, requireBpf as requireDescriptor } from './bpf-call.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';

/** Program types and attach types of linux/bpf.h. */
export const BPF_PROG_TYPE_TRACING = 26;
export const BPF_PROG_TYPE_SYSCALL = 31;
export const BPF_TRACE_ITER = 28;
export const BPF_F_SLEEPABLE = 1 << 4;

const BPF_MAP_CREATE = 0;
const BPF_PROG_LOAD = 5;
const BPF_PROG_RUN = 10;
const BPF_LINK_CREATE = 28;
const BPF_ITER_CREATE = 33;

const BPF_MAP_TYPE_ARRAY = 2;
const BPF_F_MMAPABLE = 1 << 10;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const EAGAIN = 11;

const LOG_BYTES = 64 * 1024;
const INSTRUCTION_BYTES = 8;

const SIG_BLOCK = 0;
const SIG_SETMASK = 2;
/** sigset_t */
const SIGNALS_BYTES = 128;

/** The one value of an array map, which programs and this process share. */
export interface SharedArea {
  readonly mapFd: number;
  /** Zeroes at first. Not to be touched once the area is released. */
  readonly bytes: Buffer;
  readonly release: () => void;
}

/** What a program is, beside its instructions. */
export interface ProgramKind {
  /** At most 15 letters, for those who list programs. */
  readonly name: string;
  readonly type: number;
  readonly flags?: number;
  readonly attachType?: number;
  /** The number of the kernel's function that it is attached to. */
  readonly attachBtfId?: number;
}

/** Makes an array map of one value. Like all here, it throws `unavailable`, reason `bpf`, where the kernel or the privileges do not let it. */
export function createSharedArea(bytes: number, name: string): SharedArea {
  const attributes = allocateNative(72);
  attributes.writeUInt32LE(BPF_MAP_TYPE_ARRAY, 0);
  attributes.writeUInt32LE(4, 4);
  attributes.writeUInt32LE(bytes, 8);
  attributes.writeUInt32LE(1, 12);
  attributes.writeUInt32LE(BPF_F_MMAPABLE, 16);
  attributes.write(name, 28, 15, 'latin1');
  const mapFd = requireDescriptor(BPF_MAP_CREATE, attributes, 'make a map');
  const address = libc().mmap(0, bytes, PROT_READ_WRITE, MAP_SHARED, mapFd, 0);
  if (address === null || BigInt.asIntN(64, BigInt(address)) < 0n) {
    const why = errnoName(errno());
    libc().close(mapFd);
    throw unavailable('map memory', why);
  }
  return {
    mapFd,
    bytes: Buffer.from(toArrayBuffer(address, 0, bytes)),
    release: () => {
      libc().munmap(address, bytes);
      libc().close(mapFd);
    },
  };
}

/** Loads a program and returns its descriptor. What the kernel's verifier says of one that it refuses is in the message. */
export function loadProgram(instructions: Buffer, kind: ProgramKind): number {
  const license = allocateNative(4);
  license.write('GPL\0');
  const log = allocateNative(LOG_BYTES);
  const attributes = allocateNative(120);
  attributes.writeUInt32LE(kind.type, 0);
  attributes.writeUInt32LE(instructions.length / INSTRUCTION_BYTES, 4);
  attributes.writeBigUInt64LE(BigInt(ptr(instructions)), 8);
  attributes.writeBigUInt64LE(BigInt(ptr(license)), 16);
  attributes.writeUInt32LE(kind.flags ?? 0, 44);
  attributes.write(kind.name, 48, 15, 'latin1');
  attributes.writeUInt32LE(kind.attachType ?? 0, 68);
  attributes.writeUInt32LE(kind.attachBtfId ?? 0, 108);
  const fd = load(attributes);
  if (fd >= 0) return fd;
  // Again, with a log this time: it is long, and takes time.
  attributes.writeUInt32LE(1, 24);
  attributes.writeUInt32LE(LOG_BYTES, 28);
  attributes.writeBigUInt64LE(BigInt(ptr(log)), 32);
  const again = load(attributes);
  if (again >= 0) return again;
  throw unavailable(`load the program ${kind.name}`, `${errnoName(-again)}${lastWords(log)}`);
}

/** The verifier gives up when a signal comes, as the engine sends them to its threads: they wait until it is done, a millisecond or two. */
function load(attributes: Buffer): number {
  const isBlocked = libc().pthread_sigmask(SIG_BLOCK, allSignals, signalsBefore) === 0;
  try {
    return bpf(BPF_PROG_LOAD, attributes);
  } finally {
    if (isBlocked) libc().pthread_sigmask(SIG_SETMASK, signalsBefore, null);
  }
}

/** Runs a program of type BPF_PROG_TYPE_SYSCALL once. */
export function runProgram(programFd: number): void {
  runAttributes.writeUInt32LE(programFd, 0);
  const result = bpf(BPF_PROG_RUN, runAttributes);
  const returned = runAttributes.readInt32LE(4);
  if (result < 0 || returned !== 0) throw unavailable('run a program', errnoName(-result || returned));
}

/** Attaches a program to an iterator of the kernel, and returns the link's descriptor. */
export function linkIterator(programFd: number): number {
  const attributes = allocateNative(64);
  attributes.writeUInt32LE(programFd, 0);
  attributes.writeUInt32LE(BPF_TRACE_ITER, 8);
  return requireDescriptor(BPF_LINK_CREATE, attributes, 'attach an iterator');
}

/** Goes through an iterator from its beginning to its end, or until its program writes something to be read, which ends it. */
export function runIterator(linkFd: number): void {
  iteratorAttributes.writeUInt32LE(linkFd, 0);
  const fd = requireDescriptor(BPF_ITER_CREATE, iteratorAttributes, 'begin an iterator');
  try {
    for (;;) {
      const length = Number(libc().read(fd, unread, unread.length));
      if (length >= 0) return;
      const error = errno();
      // After a million elements the kernel pauses.
      if (error !== EAGAIN) throw unavailable('read an iterator', errnoName(error));
    }
  } finally {
    libc().close(fd);
  }
}

const allSignals = allocateNative(SIGNALS_BYTES).fill(0xff);
const signalsBefore = allocateNative(SIGNALS_BYTES);
const runAttributes = allocateNative(80);
const iteratorAttributes = allocateNative(8);
const unread = allocateNative(8);

/** The end of the verifier's log, which says what it did not like; its very last line are figures. */
function lastWords(log: Buffer): string {
  const lines = log.toString('latin1', 0, log.indexOf(0)).trim().split('\n');
  const said = lines.filter((line) => !line.startsWith('processed ')).at(-1) ?? '';
  return said === '' ? '' : `: ${said.slice(0, 200)}`;
}
