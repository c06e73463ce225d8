import { decodeDatagram } from '../native/datagram-packet.ts';
import type { InNamespace } from '../native/network-namespace.ts';
import { openPacketLog } from '../native/packet-log.ts';
import type { LoggedPacket } from '../native/packet-log-message.ts';
import { sendRawDatagram } from '../native/raw-datagram.ts';
import { findUdpSenders } from '../native/sock-diag.ts';
import type { UdpSocket } from '../native/sock-diag-message.ts';
import type { UdpSearch } from '../native/udp-search.ts';
import type { SoughtSenders } from '../native/udp-search-area.ts';
import type { AskedDatagram, DatagramGate, FlowKey, GateListener, SenderSearch } from './datagram-gate.ts';
import { FlowSets, LEASE_MS, membersOf, type Member } from './flow-sets.ts';
import { UDP_LOG_GROUP, UDP_SETS } from './udp-rules.ts';

export interface NftDatagramGateOptions extends InNamespace {
  readonly mark: number;
  /** Finds senders among many sockets of others; of the host's own namespace alone. Absent where the kernel does not let it. */
  readonly crowds?: Pick<UdpSearch, 'find'> | undefined;
  /** Bytes that may wait to be heard. */
  readonly waitingBytes?: number;
}

/** So many sockets of others are expected where none were gone through yet. */
const FIRST_CROWD = 1024;
const WAITING_BYTES = 4 * 1024 * 1024;

/** The gate of the rules of `udp-rules.ts` in one network namespace, in whichever mode capture is. Needs CAP_NET_ADMIN and CAP_NET_RAW. */
export class NftDatagramGate implements DatagramGate {
  readonly leaseMs = LEASE_MS;
  readonly #options: NftDatagramGateOptions;
  readonly #sets: FlowSets;
  /** How many sockets were gone through the last time. */
  #crowd = FIRST_CROWD;

  constructor(options: NftDatagramGateOptions) {
    this.#options = options;
    this.#sets = new FlowSets(UDP_SETS, options);
  }

  async open(listener: GateListener): Promise<() => void> {
    const close = await this.listen(listener);
    this.flush();
    return () => {
      close();
      this.flush();
    };
  }

  /** As `open`, and lets what may pass go on, when it begins and when it ends. */
  async listen({ onDatagram, onLost, onEnd }: GateListener): Promise<() => void> {
    const { namespace, waitingBytes = WAITING_BYTES } = this.#options;
    const onPacket = (logged: LoggedPacket): void => {
      const asked = readAsked(logged);
      if (asked === undefined) onLost(1);
      else onDatagram(asked);
    };
    const log = { group: UDP_LOG_GROUP, namespace, waitingBytes };
    return await openPacketLog({ ...log, onPacket, onLost, onEnd });
  }

  /** Lets nothing pass any more. Where it cannot, the rules are not there, and come with empty sets, or what passes ends by itself. */
  flush(): void {
    try {
      this.#sets.flush();
    } catch {
      // See above.
    }
  }

  findObstacle(): undefined {
    return undefined;
  }

  findSenders({ source, destination }: FlowKey, search: SenderSearch): readonly UdpSocket[] {
    const { namespace } = this.#options;
    const ends = { local: source, remote: destination };
    return findUdpSenders(ends, {
      mayBeOf: search.mayBeOf,
      searchCrowd: () => this.#searchCrowd(ends, search),
      namespace,
    });
  }

  #searchCrowd(
    ends: Omit<SoughtSenders, 'users'>,
    { users, hasTimeFor }: SenderSearch,
  ): readonly UdpSocket[] {
    const { namespace, crowds } = this.#options;
    if (crowds === undefined || users === undefined || namespace !== undefined) return [];
    if (!hasTimeFor(this.#crowd)) return [];
    const { sockets, passed } = crowds.find({ ...ends, users });
    this.#crowd = Math.max(passed, FIRST_CROWD);
    return sockets ?? [];
  }

  admit(flows: readonly FlowKey[]): void {
    this.#sets.replace(flows.map((flow) => ({ was: [], now: membersOf(UDP_SETS, flow) })));
  }

  prolong(flows: readonly FlowKey[]): void {
    this.#sets.replace(
      flows.map((flow) => {
        const members = membersOf(UDP_SETS, flow);
        return { was: members, now: members };
      }),
    );
  }

  end(flows: readonly FlowKey[]): void {
    this.#sets.remove(membersOfAll(flows));
  }

  send(datagram: AskedDatagram, sockets: readonly UdpSocket[]): void {
    const { mark, namespace } = this.#options;
    const [boundTo, ...others] = new Set(sockets.map(({ interfaceIndex }) => interfaceIndex));
    // Where they are bound to several, it goes where the kernel was about to send it.
    const isOne = boundTo !== undefined && others.length === 0;
    sendRawDatagram({ ...datagram, mark, boundTo: isOne ? boundTo : datagram.interfaceIndex, namespace });
  }
}

function membersOfAll(flows: readonly FlowKey[]): readonly Member[] {
  return flows.flatMap((flow) => membersOf(UDP_SETS, flow));
}

/** Undefined for what the kernel sent without a socket, and for what is no whole datagram. */
function readAsked({ packet, uid, interfaceIndex }: LoggedPacket): AskedDatagram | undefined {
  const datagram = decodeDatagram(packet);
  return datagram === undefined || uid === undefined ? undefined : { ...datagram, uid, interfaceIndex };
}
