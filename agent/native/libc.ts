import { dlopen, FFIType, read, type Pointer } from 'bun:ffi';
import { constants } from 'node:os';

const { i32, u32, i64_fast, u64_fast, ptr } = FFIType;

const SIGNATURES = {
  socket: { args: [i32, i32, i32], returns: i32 },
  connect: { args: [i32, ptr, u32], returns: i32 },
  bind: { args: [i32, ptr, u32], returns: i32 },
  listen: { args: [i32, i32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, ptr, ptr], returns: i32 },
  setsockopt: { args: [i32, i32, i32, ptr, u32], returns: i32 },
  getsockname: { args: [i32, ptr, ptr], returns: i32 },
  getpeername: { args: [i32, ptr, ptr], returns: i32 },
  send: { args: [i32, ptr, u64_fast, i32], returns: i64_fast },
  recv: { args: [i32, ptr, u64_fast, i32], returns: i64_fast },
  socketpair: { args: [i32, i32, i32, ptr], returns: i32 },
  sendmsg: { args: [i32, ptr, i32], returns: i64_fast },
  recvmsg: { args: [i32, ptr, i32], returns: i64_fast },
  close: { args: [i32], returns: i32 },
  flock: { args: [i32, i32], returns: i32 },
  poll: { args: [ptr, u64_fast, i32], returns: i32 },
  open: { args: [ptr, i32], returns: i32 },
  getdents64: { args: [i32, ptr, u64_fast], returns: i64_fast },
  // The name is an address rather than a buffer: it lies inside of what getdents64 wrote.
  readlinkat: { args: [i32, u64_fast, ptr, u64_fast], returns: i64_fast },
  read: { args: [i32, ptr, u64_fast], returns: i64_fast },
  mmap: { args: [u64_fast, u64_fast, i32, i32, i32, i64_fast], returns: ptr },
  munmap: { args: [ptr, u64_fast], returns: i32 },
  setns: { args: [i32, i32], returns: i32 },
  ioctl: { args: [i32, u64_fast, u64_fast], returns: i32 },
  prctl: { args: [i32, u64_fast, u64_fast, u64_fast, u64_fast], returns: i32 },
  pthread_sigmask: { args: [i32, ptr, ptr], returns: i32 },
  // bpf(2) has no function of its own: number, command, attributes, their length.
  syscall: { args: [i64_fast, i32, ptr, u32], returns: i64_fast },
  __errno_location: { args: [], returns: ptr },
} as const;

type Libc = ReturnType<typeof dlopen<typeof SIGNATURES>>['symbols'];

let symbols: Libc | undefined;
let errnoLocation: Pointer | undefined;

/** The C library's functions that the agent calls, opened at first use. Every return value must be checked before any output is read. */
export function libc(): Libc {
  symbols ??= dlopen('libc.so.6', SIGNATURES).symbols;
  return symbols;
}

/** The error number of the call that failed last on this thread: read it at once, before anything else is called. */
export function errno(): number {
  errnoLocation ??= requirePointer(libc().__errno_location());
  return read.i32(errnoLocation, 0);
}

/** The symbol of an error number, such as `ECONNREFUSED`; `errno 4711` where it has none. */
export function errnoName(number: number): string {
  return ERRNO_NAMES.get(number) ?? `errno ${number}`;
}

/**
 * A buffer that C may read and write. Its storage is an ArrayBuffer of its own: that of a small typed array moves when the engine
 * touches it, and a pointer taken before then reads another call's data.
 */
export function allocateNative(bytes: number): Buffer<ArrayBuffer> {
  return Buffer.from(new ArrayBuffer(bytes));
}

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

function requirePointer(value: Pointer | bigint | null): Pointer {
  if (value === null || typeof value === 'bigint') throw new TypeError('libc has no errno location');
  return value;
}
