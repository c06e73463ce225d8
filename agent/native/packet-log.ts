import type { Socket } from 'bun';
import { allocateNative, errno, errnoName, libc } from './libc.ts';
import { netlinkError, nextSequence, openNetlinkSocket } from './netlink.ts';
import type { InNamespace } from './network-namespace.ts';
import {
  decodePacketLogMessages,
  encodePacketLogCommand,
  PACKET_LOG_COMMAND_BYTES,
  type LoggedPacket,
} from './packet-log-message.ts';
import { setIntegerOption, SOL_SOCKET } from './socket-option.ts';

const NETLINK_NETFILTER = 12;
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = { level: SOL_NETLINK, name: 5, what: 'NETLINK_NO_ENOBUFS' };
const SO_RCVBUFFORCE = { level: SOL_SOCKET, name: 33, what: 'SO_RCVBUFFORCE' };
const ANSWER_BYTES = 1024;
const MAX_BEFORE_ANSWER = 1024;

const command = allocateNative(PACKET_LOG_COMMAND_BYTES);
const answer = allocateNative(ANSWER_BYTES);
const LOG = { family: NETLINK_NETFILTER, reason: 'packet_log', action: 'Cannot be given logged packets' };

export interface PacketLogOptions extends InNamespace {
  /** Of `log group` in a rule; one socket of a network namespace may have it at a time. */
  readonly group: number;
  /** What may wait for us: 4 MiB are some thousand small packets, or some dozen of the largest. What comes beyond is lost, and that is the right thing. */
  readonly waitingBytes: number;
  /** The packet is good until it returns. */
  readonly onPacket: (logged: LoggedPacket) => void;
  /** So many were lost: they came faster than they were read. */
  readonly onLost: (packets: number) => void;
  /** Nothing more comes. */
  readonly onEnd: () => void;
}

/**
 * Has the packets of a group of NFLOG, of a network namespace. What it returns ends it, without `onEnd`. Needs CAP_NET_ADMIN. Throws `unavailable`, reason `packet_log`,
 * EPERM among others: somebody else has the group.
 */
export async function openPacketLog(options: PacketLogOptions): Promise<() => void> {
  const fd = openNetlinkSocket({ ...LOG, namespace: options.namespace });
  try {
    setIntegerOption(fd, NETLINK_NO_ENOBUFS, 1);
    setIntegerOption(fd, SO_RCVBUFFORCE, options.waitingBytes);
    takeGroup(fd, options.group);
  } catch (error) {
    libc().close(fd);
    throw error;
  }
  return await readPackets(fd, options);
}

function takeGroup(fd: number, group: number): void {
  const sequence = nextSequence(LOG.family);
  encodePacketLogCommand(command, sequence, group);
  if (Number(libc().send(fd, command, PACKET_LOG_COMMAND_BYTES, 0)) !== PACKET_LOG_COMMAND_BYTES)
    throw netlinkError(LOG, errnoName(errno()));
  const errorNumber = receiveAnswer(fd, sequence);
  if (errorNumber !== 0) throw netlinkError(LOG, errnoName(errorNumber));
}

/** What is logged in the same moment may come before it, and is passed over. */
function receiveAnswer(fd: number, sequence: number): number {
  for (let messages = 0; messages < MAX_BEFORE_ANSWER; messages++) {
    const received = Number(libc().recv(fd, answer, ANSWER_BYTES, 0));
    if (received < 0) throw netlinkError(LOG, errnoName(errno()));
    for (const message of decodePacketLogMessages(answer.subarray(0, received)))
      if (message.kind === 'answer' && message.sequence === sequence) return message.errorNumber;
  }
  throw netlinkError(LOG, 'the kernel answers with something else');
}

async function readPackets(fd: number, { onPacket, onLost, onEnd }: PacketLogOptions): Promise<() => void> {
  let isStopped = false;
  let expected: number | undefined;
  const data = (_: Socket, datagram: Buffer): void => {
    for (const message of decodePacketLogMessages(datagram)) {
      if (message.kind !== 'packet' || isStopped) continue;
      const { sequence } = message.logged;
      if (sequence !== undefined && expected !== undefined && sequence !== expected)
        onLost((sequence - expected) >>> 0);
      if (sequence !== undefined) expected = (sequence + 1) >>> 0;
      onPacket(message.logged);
    }
  };
  const close = (): void => {
    if (!isStopped) onEnd();
  };
  // A netlink socket is read like any other; Bun's types leave the descriptor out.
  const settings = { fd, socket: { data, close, error: () => undefined } };
  const socket = await Bun.connect(settings as unknown as Bun.TCPSocketConnectOptions);
  return () => {
    isStopped = true;
    socket.terminate();
  };
}
