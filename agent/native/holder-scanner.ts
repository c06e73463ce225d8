import { readlinkSync, statSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  BPF_F_SLEEPABLE,
  BPF_PROG_TYPE_SYSCALL,
  BPF_PROG_TYPE_TRACING,
  BPF_TRACE_ITER,
  createSharedArea,
  linkIterator,
  loadProgram,
  runIterator,
  runProgram,
  type SharedArea,
} from './bpf.ts';
import { queryBtf, type BtfQuery } from './btf.ts';
import { clearRecords, HOLDER_AREA, isCut, markSought, readRecords } from './holder-area.ts';
import { buildHolderIterator, ITERATOR_TYPES } from './holder-iterator.ts';
import { buildHolderWalk, WALK_TYPES } from './holder-walk.ts';
import { readKernelTypes } from './kernel-types.ts';
import { libc } from './libc.ts';
import { AF_INET } from './sockaddr.ts';
import type { HolderScan, SocketHolder } from './socket-holders.ts';

/** How a scanner looks: by a program of ours that walks through the descriptor tables, or by the kernel's iterator over them. */
export type ScannerKind = 'bpf_walk' | 'bpf_iterator';

/** Finds the processes that hold sockets by a program in the kernel, all at once, within the call. */
export interface HolderScanner {
  readonly kind: ScannerKind;
  /**
   * Every process, except one, that holds one of these sockets, each process once a socket, threads with descriptor tables of their own included. Not
   * complete where there are too many. `bpf_walk` gives each its stamp. Throws `unavailable`, reason `bpf`.
   */
  scan(inodes: ReadonlySet<number>, exceptPid: number): HolderScan;
  close(): void;
}

/** PROC_PID_INIT_INO: programs see the pids of the machine, not those of a container. */
const INITIAL_PID_NAMESPACE = 'pid:[4026531836]';
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

/**
 * Loads the program of this kind and tries it out. Throws `unavailable`, reason `bpf`, `btf` or `holder_scan_wrong`, where the kernel or the
 * privileges (CAP_BPF, CAP_PERFMON) do not let it.
 */
export function openHolderScanner(kind: ScannerKind): HolderScanner {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PID_NAMESPACE)
    throw wrong('the agent is in a pid namespace of its own');
  const scanner = kind === 'bpf_walk' ? openWalk() : openIterator();
  try {
    tryOut(scanner);
  } catch (error) {
    scanner.close();
    throw error;
  }
  return scanner;
}

function openWalk(): HolderScanner {
  return open('bpf_walk', WALK_TYPES, (types, mapFd) => {
    const programFd = loadProgram(buildHolderWalk({ types, mapFd }), {
      name: 'picket_holders',
      type: BPF_PROG_TYPE_SYSCALL,
      flags: BPF_F_SLEEPABLE,
    });
    return { fds: [programFd], run: () => runProgram(programFd) };
  });
}

function openIterator(): HolderScanner {
  return open('bpf_iterator', ITERATOR_TYPES, (types, mapFd) => {
    const programFd = loadProgram(buildHolderIterator({ types, mapFd }), {
      name: 'picket_holders',
      type: BPF_PROG_TYPE_TRACING,
      attachType: BPF_TRACE_ITER,
      attachBtfId: types.id('bpf_iter_task_file'),
    });
    try {
      const linkFd = linkIterator(programFd);
      return { fds: [linkFd, programFd], run: () => runIterator(linkFd) };
    } catch (error) {
      libc().close(programFd);
      throw error;
    }
  });
}

function open(
  kind: ScannerKind,
  query: BtfQuery,
  load: (
    types: ReturnType<typeof queryBtf>,
    mapFd: number,
  ) => { readonly fds: readonly number[]; readonly run: () => void },
): HolderScanner {
  const types = queryBtf(readKernelTypes(), query);
  const area = createSharedArea(HOLDER_AREA.bytes, 'picket_holders');
  try {
    const { fds, run } = load(types, area.mapFd);
    return new Scanner(kind, { area, fds, run });
  } catch (error) {
    area.release();
    throw error;
  }
}

class Scanner implements HolderScanner {
  readonly kind: ScannerKind;
  readonly #area: SharedArea;
  readonly #fds: readonly number[];
  readonly #run: () => void;
  #isClosed = false;

  constructor(
    kind: ScannerKind,
    parts: { readonly area: SharedArea; readonly fds: readonly number[]; readonly run: () => void },
  ) {
    this.kind = kind;
    this.#area = parts.area;
    this.#fds = parts.fds;
    this.#run = parts.run;
  }

  scan(inodes: ReadonlySet<number>, exceptPid: number): HolderScan {
    if (this.#isClosed) throw wrong('it is closed');
    const { bytes } = this.#area;
    clearRecords(bytes, exceptPid);
    markSought(bytes, inodes, true);
    try {
      this.#run();
    } finally {
      markSought(bytes, inodes, false);
    }
    const holders = readRecords(bytes, inodes, { hasStamps: this.kind === 'bpf_walk' });
    return { holders, isComplete: !isCut(bytes) };
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const fd of this.#fds) libc().close(fd);
    this.#area.release();
  }
}

/** A socket of our own must be found at its descriptor, and not when we are left out. */
function tryOut(scanner: HolderScanner): void {
  const fd = libc().socket(AF_INET, SOCK_STREAM_CLOEXEC, 0);
  if (fd < 0) throw wrong('there is no socket to try it with');
  try {
    const inodes = new Set([statSync(`/proc/self/fd/${fd}`).ino]);
    const isOurs = (holder: SocketHolder): boolean => holder.pid === process.pid;
    const found = scanner.scan(inodes, 0).holders.find(isOurs);
    const isLeftOut = !scanner.scan(inodes, process.pid).holders.some(isOurs);
    if (found?.fd !== fd || !isLeftOut) throw wrong('a socket of the agent itself is not found as it is');
  } finally {
    libc().close(fd);
  }
}

function wrong(why: string): PicketError {
  return new PicketError('unavailable', 'holder_scan_wrong', `Cannot use a program in the kernel: ${why}`);
}
