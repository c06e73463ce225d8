import type { Socket } from 'bun';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { askNetlink, netlinkError, nextSequence, openNetlinkSocket } from './netlink.ts';
import type { InNamespace } from './network-namespace.ts';
import {
  decodeNftablesMessages,
  encodeGenerationQuery,
  FAMILY_INET,
  GENERATION_QUERY_BYTES,
  type RulesetAuthor,
} from './nftables-message.ts';
import { setIntegerOption, SOL_SOCKET } from './socket-option.ts';

const NETLINK_NETFILTER = 12;
/** Of linux/netlink.h and linux/netfilter/nfnetlink.h. */
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NFNLGRP_NFTABLES = 7;

const SO_RCVBUFFORCE = { level: SOL_SOCKET, name: 33, what: 'SO_RCVBUFFORCE' };
/** Every element of a set that comes or goes is told, too: some thousand at once. */
const WAITING_BYTES = 4 * 1024 * 1024;

const EAGAIN = 11;
/** recv(2) tells how long a datagram was, also one that it has cut. */
const MSG_TRUNC = 0x20;
/** As long as the kernel makes one. */
const TOLD_BYTES = 64 * 1024;

const question = allocateNative(GENERATION_QUERY_BYTES);
const told = allocateNative(TOLD_BYTES);
const group = allocateNative(4);
const ASKED = {
  family: NETLINK_NETFILTER,
  bytes: question,
  length: GENERATION_QUERY_BYTES,
  reason: 'nftables',
  action: 'Cannot ask how often the firewall has changed',
};
const WATCHED = {
  family: NETLINK_NETFILTER,
  reason: 'nftables_watch',
  action: 'Cannot hear of changes of the firewall',
};

/** The number of the last transaction of nftables in a network namespace, whoever made it. Throws `unavailable`, reason `nftables`. */
export function readRulesetGeneration({ namespace }: InNamespace = {}): number {
  const sequence = nextSequence(ASKED.family);
  encodeGenerationQuery(question, sequence);
  return askNetlink({ ...ASKED, namespace }, (receive) => {
    const answer = decodeNftablesMessages(receive()).find((each) => each.sequence === sequence)?.message;
    if (answer?.kind === 'generation') return answer.number;
    const why =
      answer?.kind === 'error' ? errnoName(answer.errorNumber) : 'the kernel answers with something else';
    throw netlinkError(ASKED, why);
  });
}

export interface TableWatchOptions extends InNamespace {
  /** Of the family inet. */
  readonly table: string;
  /** A transaction touched the table. */
  readonly onChange: (author: RulesetAuthor) => void;
  /** The kernel tells no more: its messages came faster than they were read, and some are lost. */
  readonly onEnd: () => void;
}

/**
 * Hears of every change of a table in the moment in which the kernel makes it, from anybody in its network namespace, this process included. What it
 * returns ends it, without `onEnd`. Needs CAP_NET_ADMIN. Throws `unavailable`, reason `nftables_watch`.
 */
export async function watchTable({
  table,
  namespace,
  onChange,
  onEnd,
}: TableWatchOptions): Promise<() => void> {
  let isTouched = false;
  let isStopped = false;
  const data = (_: Socket, datagram: Buffer): void => {
    for (const { message } of decodeNftablesMessages(datagram)) {
      if (message.kind === 'member') isTouched ||= message.family === FAMILY_INET && message.table === table;
      if (message.kind !== 'generation' || !isTouched) continue;
      isTouched = false;
      onChange(message.author);
    }
  };
  const close = (): void => {
    if (!isStopped) onEnd();
  };
  // A netlink socket is read like any other; Bun's types leave the descriptor out.
  const options = { fd: openSubscription({ namespace }), socket: { data, close, error: () => undefined } };
  const socket = await Bun.connect(options as unknown as Bun.TCPSocketConnectOptions);
  return () => {
    isStopped = true;
    socket.terminate();
  };
}

/** What the kernel has told of a table since it was opened. */
export interface TableJournal {
  /** How many transactions touched it, whoever made them; elements of sets do not count, which come and go all the time. Undefined where the kernel could not tell all. */
  countChanges(): number | undefined;
  close(): void;
}

/** Hears what happens to a table of the family inet from now on, without a turn of the event loop: what has happened is told when it is asked. Throws as `watchTable`. */
export function openTableJournal({
  table,
  namespace,
}: Pick<TableWatchOptions, 'table' | 'namespace'>): TableJournal {
  const fd = openSubscription({ namespace });
  let isTouched = false;
  let changes: number | undefined = 0;
  const note = (datagram: Buffer): void => {
    for (const { message } of decodeNftablesMessages(datagram)) {
      if (message.kind === 'member') isTouched ||= message.family === FAMILY_INET && message.table === table;
      if (message.kind !== 'generation' || !isTouched) continue;
      isTouched = false;
      if (changes !== undefined) changes += 1;
    }
  };
  return {
    countChanges: () => {
      for (;;) {
        const received = Number(libc().recv(fd, told, TOLD_BYTES, MSG_TRUNC));
        const isAll = received < 0 && errno() === EAGAIN;
        if (!isAll && (received < 0 || received > TOLD_BYTES)) changes = undefined;
        if (received < 0) return changes;
        note(told.subarray(0, Math.min(received, TOLD_BYTES)));
      }
    },
    close: () => void libc().close(fd),
  };
}

function openSubscription({ namespace }: InNamespace): number {
  const fd = openNetlinkSocket({ ...WATCHED, namespace });
  setIntegerOption(fd, SO_RCVBUFFORCE, WAITING_BYTES);
  group.writeUInt32LE(NFNLGRP_NFTABLES, 0);
  if (libc().setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group, 4) === 0) return fd;
  const why = errnoName(errno());
  libc().close(fd);
  throw netlinkError(WATCHED, why);
}
