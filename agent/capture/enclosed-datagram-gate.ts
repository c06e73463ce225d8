import type { Clock } from '../../shared/runtime/clock.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import type { UdpSocket } from '../native/sock-diag-message.ts';
import type { AskedDatagram, DatagramGate, FlowKey, GateListener, SenderSearch } from './datagram-gate.ts';
import { FlowSets, forwardsOf } from './flow-sets.ts';
import { ForwardedFlows, nameOf } from './forwarded-flows.ts';
import type { InterfacesToNamespaces } from './interfaces-to-namespaces.ts';
import { NftDatagramGate } from './nft-datagram-gate.ts';
import { RestedListening } from './rested-listening.ts';
import { UDP_FORWARD_SETS } from './udp-rules.ts';

export interface EnclosedDatagramGateOptions {
  readonly namespace: NetworkNamespace;
  readonly mark: number;
  /** Whether an address in canonical spelling is one of the namespace. */
  readonly isItsAddress: (address: string) => boolean;
  /** Of all gates. */
  readonly interfaces: Pick<InterfacesToNamespaces, 'find'>;
  readonly clock: Clock;
}

/** Bytes that may wait to be heard of one namespace, of which there may be hundreds. */
const WAITING_BYTES = 512 * 1024;

/**
 * The gate of another namespace of this host. Who sends is asked within, and told apart there by its rules; whether anything leaves, the host's own rules say, by the interface by which it comes: whoever is root within
 * can change the former, and not the latter.
 */
export class EnclosedDatagramGate implements DatagramGate {
  readonly leaseMs: number;
  readonly #options: EnclosedDatagramGateOptions;
  readonly #within: NftDatagramGate;
  readonly #host = new FlowSets(UDP_FORWARD_SETS);
  readonly #forwarded: ForwardedFlows;

  constructor(options: EnclosedDatagramGateOptions) {
    this.#options = options;
    this.#within = new NftDatagramGate({ ...options, waitingBytes: WAITING_BYTES });
    this.leaseMs = this.#within.leaseMs;
    this.#forwarded = new ForwardedFlows(this.leaseMs);
  }

  async open(listener: GateListener): Promise<() => void> {
    const { clock } = this.#options;
    const listening = new RestedListening({
      open: async (heard) => await this.#within.listen(heard),
      listener,
      clock,
    });
    await listening.start();
    this.#within.flush();
    this.#forgetAll();
    return () => {
      listening.stop();
      this.#within.flush();
      this.#forgetAll();
    };
  }

  findObstacle({ source }: FlowKey): string | undefined {
    // Whoever has within the number that another user has on the host would be taken for him by the rules there.
    if (this.#options.namespace.hasOtherUsers)
      return 'Its namespace belongs to a user namespace of its own, whose users have other numbers';
    if (!this.#options.isItsAddress(source.address))
      return 'The address that it came from is not one of its namespace';
    return this.#interfacesNow().length === 0
      ? 'No interface of the host leads to its namespace alone'
      : undefined;
  }

  findSenders(flow: FlowKey, search: SenderSearch): readonly UdpSocket[] {
    return this.#within.findSenders(flow, search);
  }

  admit(flows: readonly FlowKey[]): void {
    this.#forward(flows);
    tryWithin(() => this.#within.admit(flows));
  }

  prolong(flows: readonly FlowKey[]): void {
    this.#forward(flows);
    tryWithin(() => this.#within.prolong(flows));
  }

  end(flows: readonly FlowKey[]): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const flow of flows) this.#host.remove(this.#forwarded.end(flow, nowMs));
    tryWithin(() => this.#within.end(flows));
  }

  send(datagram: AskedDatagram, sockets: readonly UdpSocket[]): void {
    this.#within.send(datagram, sockets);
  }

  /** By whichever interfaces lead to the namespace now. */
  #forward(flows: readonly FlowKey[]): void {
    const interfaces = this.#interfacesNow();
    const nowMs = this.#options.clock.monotonicMs();
    // Of two users between the same two ends once.
    const byName = new Map(
      flows.map((flow) => {
        const now = interfaces.flatMap((index) => forwardsOf(UDP_FORWARD_SETS, flow, index));
        return [nameOf(flow), { was: this.#forwarded.membersOf(flow), now }] as const;
      }),
    );
    this.#host.replace([...byName.values()]);
    for (const flow of flows)
      this.#forwarded.put(flow, { members: byName.get(nameOf(flow))?.now ?? [], nowMs });
  }

  #forgetAll(): void {
    const members = this.#forwarded.endAll();
    try {
      this.#host.remove(members);
    } catch {
      // They end by themselves.
    }
  }

  #interfacesNow(): readonly number[] {
    const { namespace, interfaces } = this.#options;
    return interfaces.find(namespace);
  }
}

/** What the rules within let pass besides, the host's do not; what they do not, is asked about again. */
function tryWithin(work: () => void): void {
  try {
    work();
  } catch {
    // Somebody within has changed the rules, and the agent puts them back.
  }
}
