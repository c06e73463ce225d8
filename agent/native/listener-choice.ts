import { randomBytes } from 'node:crypto';
import {
  assemble,
  callHelper,
  compute,
  exit,
  jump,
  jumpIf,
  load,
  loadMap,
  register,
  store,
  type Line,
  type Register,
} from './bpf-instructions.ts';
import { loadProgram } from './bpf.ts';
import { createMap, dropElement, putElement } from './bpf-map.ts';
import { allocateNative, libc } from './libc.ts';
import { setIntegerOption, SOL_SOCKET } from './socket-option.ts';

/**
 * By what connections are told apart. `source`: the address that they come from. `process`: the process of this host that makes them, as far as the kernel
 * still knows it when it takes the first packet; where it does not, or runs no program that asks (before Linux 6.10), connections spread over all.
 */
export type ChosenBy = 'source' | 'process';

/** linux/bpf.h */
const BPF_PROG_TYPE_SK_REUSEPORT = 21;
const SK_PASS = 1;
const BPF_HDR_START_NET = 1;
const HELPERS = { currentProcess: 14, loadBytesRelative: 68, selectReuseport: 82 } as const;
/** struct sk_reuseport_md */
const CONTEXT = { ethernetProtocol: 20 } as const;
/** As they stand in a packet, read by a little-endian machine. */
const ETH_P_IP = 0x0008;
const ETH_P_IPV6 = 0xdd86;
/** Where the source address stands in the IP header. */
const SOURCE = { ipv4: { at: 12, bytes: 4 }, ipv6: { at: 8, bytes: 16 } } as const;
const SO_ATTACH_REUSEPORT_EBPF = { level: SOL_SOCKET, name: 52, what: 'SO_ATTACH_REUSEPORT_EBPF' };

const KEY_BYTES = 4;
const VALUE_BYTES = 8;
/** On the program's stack: an address, and the key of the map. */
const ADDRESS = -16;
const KEY = -24;

const STACK: Register = 10;

/**
 * Makes the kernel give all connections of one origin to one of the sockets that share a port (sk_reuseport program), the one at `hash(origin) * number / 2^32`. A
 * socket that joins the group later, of whatever process, is given nothing. The choice is no matter of safety: every socket's owner must decide what it is
 * given all the same. What is returned takes the sockets out of the map again, so that another process may do the same with them. Throws `unavailable`, reason `bpf` or `socket_option`, where
 * the kernel or the privileges do not let us, and while another process chooses among them; connections then spread over all.
 */
export function chooseListeners(fds: readonly number[], by: ChosenBy): () => void {
  const [first] = fds;
  if (first === undefined) throw new RangeError('There is no socket to choose from');
  const shape = {
    type: 'reuseport_sockarray',
    keyBytes: KEY_BYTES,
    valueBytes: VALUE_BYTES,
    maxEntries: fds.length,
  } as const;
  const mapFd = createMap(shape, 'picket_choice');
  const release = (): void => {
    for (const index of fds.keys()) dropElement(mapFd, keyOf(index));
    libc().close(mapFd);
  };
  try {
    const seed = randomBytes(4).readInt32LE(0);
    // First: the program of a process that ended without a word goes with this, and its map, out of which a socket must be before it can be in another.
    attach(first, buildChoice({ mapFd, sockets: fds.length, by, seed }));
    for (const [index, fd] of fds.entries()) putElement(mapFd, keyOf(index), valueOf(fd));
  } catch (error) {
    release();
    throw error;
  }
  return release;
}

/** The program's instructions. */
function buildChoice(choice: {
  readonly mapFd: number;
  readonly sockets: number;
  readonly by: ChosenBy;
  /** Any 32 bits: without them nobody can tell to which socket an origin of his choice leads. */
  readonly seed: number;
}): Buffer<ArrayBuffer> {
  const { mapFd, sockets, by, seed } = choice;
  return assemble([
    compute(6, '=', register(1)),
    ...(by === 'source' ? readSource() : readProcess()),
    compute(7, '^=', seed),
    ...mix(),
    // The upper half of hash * sockets is a number below `sockets`, each as often as the others.
    compute(7, '*=', sockets),
    compute(7, '>>=', 32),
    store(4, STACK, KEY, 7),
    compute(1, '=', register(6)),
    loadMap(2, mapFd),
    ...stackAddress(3, KEY),
    compute(4, '=', 0),
    callHelper(HELPERS.selectReuseport),
    { label: 'pass' },
    // Where no socket was selected the kernel takes one by its own hash.
    compute(0, '=', SK_PASS),
    exit(),
  ]);
}

/** r7 = the source address, folded to 32 bits */
function readSource(): readonly Line[] {
  return [
    load(4, 1, 6, CONTEXT.ethernetProtocol),
    jumpIf(1, '==', ETH_P_IP, 'ipv4'),
    jumpIf(1, '!=', ETH_P_IPV6, 'pass'),
    ...readHeader(SOURCE.ipv6),
    load(4, 7, STACK, ADDRESS),
    ...[4, 8, 12].flatMap((at) => [load(4, 1, STACK, ADDRESS + at), compute(7, '^=', register(1))]),
    jump('known'),
    { label: 'ipv4' },
    ...readHeader(SOURCE.ipv4),
    load(4, 7, STACK, ADDRESS),
    { label: 'known' },
  ];
}

function readHeader({ at, bytes }: { readonly at: number; readonly bytes: number }): readonly Line[] {
  return [
    compute(1, '=', register(6)),
    compute(2, '=', at),
    ...stackAddress(3, ADDRESS),
    compute(4, '=', bytes),
    compute(5, '=', BPF_HDR_START_NET),
    callHelper(HELPERS.loadBytesRelative),
    jumpIf(0, '!=', 0, 'pass'),
  ];
}

/** r7 = the number of the process in which the kernel works: on loopback, that of the connect(2). 0 is nobody. */
function readProcess(): readonly Line[] {
  return [
    callHelper(HELPERS.currentProcess),
    compute(7, '=', register(0)),
    compute(7, '>>=', 32),
    jumpIf(7, '==', 0, 'pass'),
  ];
}

/** r7 = the lower 32 bits of r7, mixed (the finalizer of MurmurHash3): neighbouring numbers spread. */
function mix(): readonly Line[] {
  return [
    ...lower(),
    ...foldRight(16),
    ...multiply(0x85ebca6b),
    ...foldRight(13),
    ...multiply(0xc2b2ae35),
    ...foldRight(16),
  ];
}

function foldRight(bits: number): readonly Line[] {
  return [compute(1, '=', register(7)), compute(1, '>>=', bits), compute(7, '^=', register(1))];
}

function multiply(factor: number): readonly Line[] {
  return [compute(7, '*=', factor | 0), ...lower()];
}

function lower(): readonly Line[] {
  return [compute(7, '<<=', 32), compute(7, '>>=', 32)];
}

function stackAddress(to: Register, offset: number): readonly Line[] {
  return [compute(to, '=', register(STACK)), compute(to, '+=', offset)];
}

/** The group holds the program from then on. */
function attach(socketFd: number, instructions: Buffer): void {
  const programFd = loadProgram(instructions, { name: 'picket_choice', type: BPF_PROG_TYPE_SK_REUSEPORT });
  try {
    setIntegerOption(socketFd, SO_ATTACH_REUSEPORT_EBPF, programFd);
  } finally {
    libc().close(programFd);
  }
}

function keyOf(index: number): Buffer {
  const key = allocateNative(KEY_BYTES);
  key.writeUInt32LE(index, 0);
  return key;
}

function valueOf(fd: number): Buffer {
  const value = allocateNative(VALUE_BYTES);
  value.writeBigUInt64LE(BigInt(fd), 0);
  return value;
}
