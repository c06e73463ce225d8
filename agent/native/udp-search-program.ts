import {
  assemble,
  callHelper,
  compute,
  exit,
  jump,
  jumpIf,
  load,
  register,
  store,
  type Line,
} from './bpf-instructions.ts';
import type { BtfAnswer, BtfQuery } from './btf.ts';
import { KernelLines } from './kernel-lines.ts';
import { AF_INET, AF_INET6 } from './sockaddr.ts';
import { MAX_USER_SPANS, UDP_AREA, UDP_RECORD } from './udp-search-area.ts';

/** linux/bpf.h: enum bpf_func_id */
const BPF_FUNC_get_socket_cookie = 46;
const BPF_FUNC_seq_write = 127;
const CONTEXT = 'bpf_iter__udp';
/** So many sockets are gone through: 15 ms. */
const MAX_PASSED = 32_768;
/** Bytes of an address, by 32 bits. */
const V4_WORDS = [0] as const;
const V6_WORDS = [0, 4, 8, 12] as const;

/** What `buildUdpSearch` asks of the kernel's types, and where it is attached. */
export const UDP_SEARCH_TYPES: BtfQuery = {
  structs: {
    [CONTEXT]: ['meta', 'udp_sk', 'uid'],
    bpf_iter_meta: ['seq', 'seq_num'],
    sock_common: [
      'skc_family',
      'skc_num',
      'skc_dport',
      'skc_daddr',
      'skc_rcv_saddr',
      'skc_v6_daddr',
      'skc_v6_rcv_saddr',
      'skc_ipv6only',
      'skc_bound_dev_if',
    ],
    sock: ['sk_socket'],
    socket: ['file'],
    file: ['f_inode'],
    inode: ['i_ino'],
  },
  functions: ['bpf_iter_udp'],
};

/**
 * A program that is called for each UDP socket of a network namespace, as the iterator of the kernel goes through them, and writes down those at a port that may have sent a datagram, or that get what answers it
 * (`findUdpSenders`). It passes over the sockets of others, however many, where sock_diag would tell of each: 0.2 to 0.5 us for one, where that takes 1.5 to 3. For Linux 5.12 and later.
 */
export function buildUdpSearch(options: {
  readonly types: BtfAnswer;
  readonly mapFd: number;
}): Buffer<ArrayBuffer> {
  const kernel = new KernelLines(options);
  return assemble([
    compute(7, '=', register(1)),
    kernel.field(8, 6, 7, [CONTEXT, 'udp_sk']),
    jumpIf(6, '==', 0, 'out'),
    kernel.area(8),
    ...stopAfter(kernel, MAX_PASSED),
    kernel.field(2, 1, 6, ['sock_common', 'skc_num']),
    load(4, 2, 8, UDP_AREA.port),
    jumpIf(1, '!=', register(2), 'out'),
    ...skipOtherFamily(kernel, options.types),
    ...skipOtherUsers(kernel),
    ...skipUnanswered(kernel),
    { label: 'it is sought' },
    ...writeRecord(kernel, options.types),
    { label: 'out' },
    compute(0, '=', 0),
    exit(),
  ]);
}

/** Counts, and ends the iterator where it is enough: it takes time for sockets of all ports. */
function stopAfter(kernel: KernelLines, max: number): readonly Line[] {
  return [
    kernel.field(8, 1, 7, [CONTEXT, 'meta']),
    kernel.field(8, 2, 1, ['bpf_iter_meta', 'seq_num']),
    store(8, 8, UDP_AREA.passed, 2),
    jumpIf(2, '<', max, 'it is not enough'),
    compute(2, '=', 1),
    store(4, 8, UDP_AREA.isCut, 2),
    kernel.field(8, 1, 1, ['bpf_iter_meta', 'seq']),
    compute(2, '=', register(8)),
    compute(3, '=', 8),
    callHelper(BPF_FUNC_seq_write),
    jump('out'),
    { label: 'it is not enough' },
  ];
}

/** A datagram of IPv6 is of a socket of IPv6; one of IPv4 of any that is not of IPv6 alone. */
function skipOtherFamily(kernel: KernelLines, types: BtfAnswer): readonly Line[] {
  return [
    kernel.field(2, 1, 6, ['sock_common', 'skc_family']),
    load(4, 2, 8, UDP_AREA.isIpv6),
    jumpIf(2, '==', 0, 'the datagram is of IPv4'),
    jumpIf(1, '!=', AF_INET6, 'out'),
    jump('it is of the family'),
    { label: 'the datagram is of IPv4' },
    jumpIf(1, '==', AF_INET, 'it is of the family'),
    ...loadIpv6Only(1, types),
    jumpIf(1, '!=', 0, 'out'),
    { label: 'it is of the family' },
  ];
}

/** Goes on at `it is sought` for a socket of one of the users. */
function skipOtherUsers(kernel: KernelLines): readonly Line[] {
  return [
    kernel.field(4, 1, 7, [CONTEXT, 'uid']),
    ...Array.from({ length: MAX_USER_SPANS }, (_, i) => [
      load(4, 2, 8, UDP_AREA.users + 8 * i),
      jumpIf(1, '<', register(2), `it is not of span ${i}`),
      load(4, 2, 8, UDP_AREA.users + 8 * i + 4),
      jumpIf(1, '<=', register(2), 'it is sought'),
      { label: `it is not of span ${i}` },
    ]).flat(),
  ];
}

/** Ends with a socket that does not get the answers: one at another address, or connected to another far end. */
function skipUnanswered(kernel: KernelLines): readonly Line[] {
  const of = (words: readonly number[], fields: readonly [string, string], name: string): readonly Line[] => [
    ...skipUnlessZeroOr(kernel, { field: fields[0], words, wish: UDP_AREA.local, name: `${name} local` }),
    ...skipUnlessZeroOr(kernel, { field: fields[1], words, wish: UDP_AREA.remote, name: `${name} remote` }),
    jump('it is sought'),
  ];
  return [
    load(4, 2, 8, UDP_AREA.isIpv6),
    jumpIf(2, '!=', 0, 'answers are of IPv6'),
    ...of(V4_WORDS, ['skc_rcv_saddr', 'skc_daddr'], 'IPv4'),
    { label: 'answers are of IPv6' },
    ...of(V6_WORDS, ['skc_v6_rcv_saddr', 'skc_v6_daddr'], 'IPv6'),
  ];
}

/** Ends unless an address of the socket is all zeroes or the one that is wished for. */
function skipUnlessZeroOr(
  kernel: KernelLines,
  {
    field,
    words,
    wish,
    name,
  }: {
    readonly field: string;
    readonly words: readonly number[];
    readonly wish: number;
    readonly name: string;
  },
): readonly Line[] {
  const at = kernel.offset('sock_common', field);
  return [
    ...words.flatMap((word) => [load(4, 1, 6, at + word), jumpIf(1, '!=', 0, `${name} is an address`)]),
    jump(`${name} may be`),
    { label: `${name} is an address` },
    ...words.flatMap((word) => [
      load(4, 1, 6, at + word),
      load(4, 2, 8, wish + word),
      jumpIf(1, '!=', register(2), 'out'),
    ]),
    { label: `${name} may be` },
  ];
}

/** Uses r0 to r5 and r9. */
function writeRecord(kernel: KernelLines, types: BtfAnswer): readonly Line[] {
  return [
    load(4, 2, 8, UDP_AREA.count),
    jumpIf(2, '<', UDP_AREA.maxRecords, 'there is space'),
    compute(1, '=', 1),
    store(4, 8, UDP_AREA.isCut, 1),
    jump('out'),
    { label: 'there is space' },
    compute(3, '=', register(2)),
    compute(3, '+=', 1),
    store(4, 8, UDP_AREA.count, 3),
    compute(2, '*=', UDP_AREA.recordBytes),
    kernel.area(9, UDP_AREA.records),
    compute(9, '+=', register(2)),
    compute(1, '=', register(6)),
    callHelper(BPF_FUNC_get_socket_cookie),
    store(8, 9, UDP_RECORD.cookie, 0),
    kernel.field(4, 1, 7, [CONTEXT, 'uid']),
    store(4, 9, UDP_RECORD.uid, 1),
    // Of a socket that no process holds any more there is nothing, which reads as zero.
    kernel.field(8, 1, 6, ['sock', 'sk_socket']),
    kernel.field(8, 1, 1, ['socket', 'file']),
    kernel.field(8, 1, 1, ['file', 'f_inode']),
    kernel.field(8, 1, 1, ['inode', 'i_ino']),
    store(4, 9, UDP_RECORD.inode, 1),
    ...loadIpv6Only(1, types),
    store(4, 9, UDP_RECORD.isIpv6Only, 1),
    kernel.field(4, 1, 6, ['sock_common', 'skc_bound_dev_if']),
    store(4, 9, UDP_RECORD.interfaceIndex, 1),
    kernel.field(2, 1, 6, ['sock_common', 'skc_dport']),
    store(4, 9, UDP_RECORD.remotePort, 1),
    kernel.field(2, 1, 6, ['sock_common', 'skc_family']),
    store(4, 9, UDP_RECORD.family, 1),
    jumpIf(1, '==', AF_INET6, 'its addresses are of IPv6'),
    ...copyWords(kernel, { field: 'skc_rcv_saddr', words: V4_WORDS, to: UDP_RECORD.local }),
    ...copyWords(kernel, { field: 'skc_daddr', words: V4_WORDS, to: UDP_RECORD.remote }),
    jump('out'),
    { label: 'its addresses are of IPv6' },
    ...copyWords(kernel, { field: 'skc_v6_rcv_saddr', words: V6_WORDS, to: UDP_RECORD.local }),
    ...copyWords(kernel, { field: 'skc_v6_daddr', words: V6_WORDS, to: UDP_RECORD.remote }),
  ];
}

function copyWords(
  kernel: KernelLines,
  { field, words, to }: { readonly field: string; readonly words: readonly number[]; readonly to: number },
): readonly Line[] {
  const at = kernel.offset('sock_common', field);
  return words.flatMap((word) => [load(4, 1, 6, at + word), store(4, 9, to + word, 1)]);
}

/** 1 or 0; it shares its byte with others. */
function loadIpv6Only(to: 1, types: BtfAnswer): readonly Line[] {
  const bit = types.bit('sock_common', 'skc_ipv6only');
  return [load(1, to, 6, bit >> 3), compute(to, '>>=', bit & 7), compute(to, '&=', 1)];
}
