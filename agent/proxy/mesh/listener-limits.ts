import { addressKey } from '../../../shared/runtime/address-key.ts';
import { YieldingQueue } from '../../../shared/runtime/yielding-queue.ts';

/** What a mesh listener bears, in numbers. */
export interface MeshListenerLimits {
  /** From the TCP connection to a whole ClientHello. */
  readonly helloMs: number;
  /** From there to the end of the handshake. */
  readonly handshakeMs: number;
  /** How long a connection may carry nothing. Longer than callers keep one, so that it is they who close it. */
  readonly idleMs: number;
  /** How long an opening may wait for its decision and the application. */
  readonly openingMs: number;
  /** How long connections may finish what they carry when the listener stops. */
  readonly drainMs: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerPeer: number;
  /** Connections whose handshake has not ended; beyond, one gives way. An honest one is over within milliseconds. */
  readonly maxHandshakes: number;
  readonly maxHandshakesPerPeer: number;
}

/** A host with a thousand workloads that call us stays below them. */
export const DEFAULT_MESH_LISTENER_LIMITS: MeshListenerLimits = {
  helloMs: 5000,
  handshakeMs: 10_000,
  idleMs: 600_000,
  openingMs: 30_000,
  drainMs: 2000,
  maxConnections: 16_384,
  maxConnectionsPerPeer: 4096,
  maxHandshakes: 2048,
  maxHandshakesPerPeer: 256,
};

/** The place of one connection. All functions are harmless when called again. */
export interface Place {
  /** Its handshake has ended, or what it carried has: it carries nothing. */
  idle(): void;
  /** It carries something, and gives way to nobody. */
  busy(): void;
  /** It is gone. */
  leave(): void;
}

type CountLimits = Pick<
  MeshListenerLimits,
  'maxConnections' | 'maxConnectionsPerPeer' | 'maxHandshakes' | 'maxHandshakesPerPeer'
>;

/** Who comes. */
interface Newcomer {
  readonly address: string;
  /** Called when it has lost its place. */
  readonly giveWay: () => void;
}

interface Guest extends Newcomer {
  /** What it is counted by among those that give way: whoever has one IPv6 address has many. */
  readonly source: string;
}

/**
 * Counts connections, all of them and by peer address. When places run short, those give way that have proven nothing, the oldest of whoever has the
 * most; then those that carry nothing, in the same order: their callers have others, or open new ones. So whoever opens connections without end and without
 * use for them keeps nobody out.
 */
export class ConnectionPlaces {
  readonly #limits: CountLimits;
  readonly #handshakes = new YieldingQueue<Guest>();
  readonly #idle = new YieldingQueue<Guest>();
  readonly #guests = new Set<Guest>();
  readonly #perAddress = new Map<string, number>();

  constructor(limits: CountLimits) {
    this.#limits = limits;
  }

  get connections(): number {
    return this.#guests.size;
  }

  /** Takes a place for a new connection; undefined when all are taken by connections that carry something. */
  tryEnter(newcomer: Newcomer): Place | undefined {
    const guest: Guest = { ...newcomer, source: addressKey(newcomer.address) };
    this.#makeRoom(guest);
    if (this.#isFull(guest)) return undefined;
    this.#guests.add(guest);
    this.#perAddress.set(guest.address, this.#countOf(guest.address) + 1);
    this.#handshakes.add(guest.source, guest);
    return {
      idle: () => this.#move(guest, this.#idle),
      busy: () => this.#move(guest, undefined),
      leave: () => this.#leave(guest),
    };
  }

  #makeRoom({ source, address }: Guest): void {
    const { maxHandshakes, maxHandshakesPerPeer, maxConnections, maxConnectionsPerPeer } = this.#limits;
    if (this.#handshakes.countOf(source) >= maxHandshakesPerPeer)
      this.#putOut(this.#handshakes.findOldestOf(source));
    else if (this.#handshakes.size >= maxHandshakes) this.#putOut(this.#handshakes.findOldestOfLargest());
    const isSame = (guest: Guest): boolean => guest.address === address;
    if (this.#countOf(address) >= maxConnectionsPerPeer)
      this.#putOut(this.#handshakes.findOldestOf(source, isSame) ?? this.#idle.findOldestOf(source, isSame));
    if (this.connections >= maxConnections)
      this.#putOut(this.#handshakes.findOldestOfLargest() ?? this.#idle.findOldestOfLargest());
  }

  #putOut(guest: Guest | undefined): void {
    if (guest === undefined) return;
    this.#leave(guest);
    guest.giveWay();
  }

  #isFull({ address }: Guest): boolean {
    const { maxConnections, maxConnectionsPerPeer } = this.#limits;
    return this.connections >= maxConnections || this.#countOf(address) >= maxConnectionsPerPeer;
  }

  #countOf(address: string): number {
    return this.#perAddress.get(address) ?? 0;
  }

  #move(guest: Guest, to: YieldingQueue<Guest> | undefined): void {
    if (!this.#guests.has(guest)) return;
    for (const queue of [this.#handshakes, this.#idle]) queue.delete(guest.source, guest);
    to?.add(guest.source, guest);
  }

  #leave(guest: Guest): void {
    this.#move(guest, undefined);
    if (!this.#guests.delete(guest)) return;
    const left = this.#countOf(guest.address) - 1;
    if (left === 0) this.#perAddress.delete(guest.address);
    else this.#perAddress.set(guest.address, left);
  }
}
