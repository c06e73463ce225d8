import type { Datagram } from '../native/datagram-packet.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { UdpSocket } from '../native/sock-diag-message.ts';
import type { UserSpan } from '../native/udp-search-area.ts';

/** A flow of datagrams: of one user's sockets at one address and port to another. */
export interface FlowKey {
  readonly uid: number;
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

/** Who may have sent a flow. */
export interface SenderSearch {
  /** Whether a socket of that user may have. */
  readonly mayBeOf: (uid: number) => boolean;
  /** All users of whom it may be; undefined where that cannot be told as spans. */
  readonly users: readonly UserSpan[] | undefined;
  /** Asked where so many sockets of others stand in the way: whether there is time to go through them. */
  readonly hasTimeFor: (sockets: number) => boolean;
}

/** A datagram that waits for a decision: the program takes it for sent. */
export interface AskedDatagram extends FlowKey {
  readonly payload: Datagram['payload'];
  /** Of the interface by which it was to leave. */
  readonly interfaceIndex: number;
}

/** What the gate tells. */
export interface GateListener {
  /** The payload is good until it returns: whether there was time for it. Where there was none, there is none for the party’s next ones in this second. */
  readonly onDatagram: (asked: AskedDatagram) => boolean;
  /** So many datagrams were dropped unseen or unread: too many, too long, or cut. */
  readonly onLost: (datagrams: number) => void;
  /** Nothing more comes, and nothing is let pass that is not already. */
  readonly onEnd: () => void;
}

/**
 * Where UDP leaves this host. It lets pass the flows that it was told to, each for `leaseMs` from when it was told last, and tells of every datagram of others, which goes nowhere unless it
 * is sent on. Whatever becomes of the agent, a flow that is not prolonged ends.
 */
export interface DatagramGate {
  readonly leaseMs: number;
  /** Begins to tell, with no flow let pass. What it returns ends that, and every flow. Throws `unavailable`: somebody else hears, or the kernel does not take it. */
  open(listener: GateListener): Promise<() => void>;
  /** Why nothing of a flow can go here, whatever is decided; undefined: it can. Throws `unavailable`. */
  findObstacle(flow: FlowKey): string | undefined;
  /**
   * The sockets from which a datagram of a flow may have come, of users who may have sent it, and those that get its answers, of any; none where they are too many, or others in their way are and there is no time for those.
   * Throws `unavailable`, reason `sock_diag` or `bpf`.
   */
  findSenders(flow: FlowKey, search: SenderSearch): readonly UdpSocket[];
  /** Lets flows pass. Throws `unavailable`; then some may pass for `leaseMs`. */
  admit(flows: readonly FlowKey[]): void;
  /** As `admit`, for flows that pass, at no moment of which they do not. */
  prolong(flows: readonly FlowKey[]): void;
  /** Ends flows, at once; one that has ended is no error. Throws as `admit`. */
  end(flows: readonly FlowKey[]): void;
  /** Sends a datagram on, in the name of the sockets that it may have come from. Throws `unavailable`. */
  send(datagram: AskedDatagram, sockets: readonly UdpSocket[]): void;
}
