import { isDeepStrictEqual } from 'node:util';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  BPF_PROG_TYPE_TRACING,
  BPF_TRACE_ITER,
  createSharedArea,
  linkIterator,
  loadProgram,
  runIterator,
  type SharedArea,
} from './bpf.ts';
import { queryBtf } from './btf.ts';
import { readKernelTypes } from './kernel-types.ts';
import { allocateNative, libc } from './libc.ts';
import { findUdpSenders } from './sock-diag.ts';
import { AF_INET6, encodeSockaddr, SOCKADDR_IN6_BYTES } from './sockaddr.ts';
import { readSocketName } from './socket-name.ts';
import type { UdpSocket } from './sock-diag-message.ts';
import {
  MAX_USER_SPANS,
  readPassed,
  readUdpSockets,
  UDP_AREA,
  writeSought,
  type SoughtSenders,
} from './udp-search-area.ts';
import { buildUdpSearch, UDP_SEARCH_TYPES } from './udp-search-program.ts';

/** What was found, and how many sockets were gone through for it, of whatever port: 0.2 to 0.5 us for each. */
export interface FoundUdpSockets {
  /** All that are sought, and perhaps others at the port; undefined where there are more than 512 of them, where 32,768 were gone through, or for more users than it can look for. */
  readonly sockets: readonly UdpSocket[] | undefined;
  readonly passed: number;
}

/** Finds the UDP sockets of the agent's own network namespace that count, by a program in the kernel, however many others stand at their port. */
export interface UdpSearch {
  /** Throws `unavailable`, reason `bpf`, or `udp_search_wrong` once it is closed. */
  find(sought: SoughtSenders): FoundUdpSockets;
  close(): void;
}

/** Where the socket is with which the program is tried out: one of IPv6 that speaks IPv4 has addresses in each place where they can be. */
const TRIAL = { address: '::ffff:127.0.0.1', port: 0 };
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const sockaddr = allocateNative(SOCKADDR_IN6_BYTES);

/** Loads the program and tries it out. Throws `unavailable`, reason `bpf`, `btf` or `udp_search_wrong`, where the kernel or the privileges (CAP_BPF, CAP_PERFMON) do not let it. */
export function openUdpSearch(): UdpSearch {
  const search = load();
  try {
    tryOut(search);
    return search;
  } catch (error) {
    search.close();
    throw error;
  }
}

function load(): UdpSearch {
  const types = queryBtf(readKernelTypes(), UDP_SEARCH_TYPES);
  const area = createSharedArea(UDP_AREA.bytes, 'picket_udp');
  const fds: number[] = [];
  try {
    const programFd = loadProgram(buildUdpSearch({ types, mapFd: area.mapFd }), {
      name: 'picket_udp',
      type: BPF_PROG_TYPE_TRACING,
      attachType: BPF_TRACE_ITER,
      attachBtfId: types.id('bpf_iter_udp'),
    });
    fds.push(programFd);
    const linkFd = linkIterator(programFd);
    return new IteratedSockets(area, { linkFd, programFd });
  } catch (error) {
    for (const fd of fds) libc().close(fd);
    area.release();
    throw error;
  }
}

/** A socket of our own must be found as sock_diag tells of it, and not where another port is sought. */
function tryOut(search: UdpSearch): void {
  const fd = libc().socket(AF_INET6, SOCK_DGRAM_CLOEXEC, 0);
  try {
    const length = encodeSockaddr(sockaddr, TRIAL);
    const local = libc().bind(fd, sockaddr, length) === 0 ? readSocketName(fd, 'getsockname') : undefined;
    if (local === undefined) throw wrong('there is no socket to try it with');
    const ends = { local, remote: { address: '127.0.0.1', port: 9 } };
    const users = [{ first: 0, last: 0xffff_fffe }];
    const told = findUdpSenders(ends, { mayBeOf: () => true });
    const found = search.find({ ...ends, users }).sockets;
    const elsewhere = { ...local, port: local.port === 1 ? 2 : local.port - 1 };
    const others = search.find({ ...ends, local: elsewhere, users }).sockets;
    const isOurs = ({ cookie }: UdpSocket): boolean => told.some((socket) => socket.cookie === cookie);
    if (told.length === 0 || !isDeepStrictEqual(found, told) || others?.some(isOurs) !== false)
      throw wrong('a socket of the agent itself is not found as it is');
  } finally {
    if (fd >= 0) libc().close(fd);
  }
}

function wrong(why: string): PicketError {
  return new PicketError('unavailable', 'udp_search_wrong', `Cannot use a program in the kernel: ${why}`);
}

class IteratedSockets implements UdpSearch {
  readonly #area: SharedArea;
  readonly #linkFd: number;
  readonly #programFd: number;
  #isClosed = false;

  constructor(area: SharedArea, fds: { readonly linkFd: number; readonly programFd: number }) {
    this.#area = area;
    this.#linkFd = fds.linkFd;
    this.#programFd = fds.programFd;
  }

  find(sought: SoughtSenders): FoundUdpSockets {
    if (this.#isClosed) throw wrong('it is closed');
    if (sought.users.length > MAX_USER_SPANS) return { sockets: undefined, passed: 0 };
    const { bytes } = this.#area;
    writeSought(bytes, sought);
    runIterator(this.#linkFd);
    return { sockets: readUdpSockets(bytes), passed: readPassed(bytes) };
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    libc().close(this.#linkFd);
    libc().close(this.#programFd);
    this.#area.release();
  }
}
