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
  /** Connections whose handshake has not ended; beyond, the oldest gives way. An honest one is over within milliseconds. */
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

/** The place of one connection. Both functions are harmless when called again. */
export interface Place {
  /** Its handshake has ended. */
  settle(): void;
  /** It is gone. */
  leave(): void;
}

type CountLimits = Pick<
  MeshListenerLimits,
  'maxConnections' | 'maxConnectionsPerPeer' | 'maxHandshakes' | 'maxHandshakesPerPeer'
>;

/** A connection whose handshake has not ended. */
interface Handshake {
  readonly leave: () => void;
  readonly giveWay: () => void;
}

interface PeerPlaces {
  connections: number;
  /** In the order of their coming. */
  readonly handshakes: Set<Handshake>;
}

/** Counts connections, all of them and by peer address. */
export class ConnectionPlaces {
  readonly #limits: CountLimits;
  readonly #all: PeerPlaces = { connections: 0, handshakes: new Set() };
  readonly #peers = new Map<string, PeerPlaces>();

  constructor(limits: CountLimits) {
    this.#limits = limits;
  }

  get connections(): number {
    return this.#all.connections;
  }

  /**
   * Takes a place for a new connection; undefined when too many are open. When too many are in their handshake the oldest of them loses its place and its
   * `giveWay` is called, so that whoever opens handshakes without end keeps nobody out.
   */
  tryEnter(address: string, giveWay: () => void): Place | undefined {
    const peer = this.#peers.get(address) ?? { connections: 0, handshakes: new Set<Handshake>() };
    this.#makeRoom(peer);
    if (this.#isFull(peer)) return undefined;
    this.#peers.set(address, peer);
    const places = [this.#all, peer];
    let isGone = false;
    const settle = (): void => {
      for (const { handshakes } of places) handshakes.delete(handshake);
    };
    const leave = (): void => {
      settle();
      if (isGone) return;
      isGone = true;
      for (const each of places) each.connections -= 1;
      if (peer.connections === 0) this.#peers.delete(address);
    };
    const handshake: Handshake = { leave, giveWay };
    for (const each of places) {
      each.connections += 1;
      each.handshakes.add(handshake);
    }
    return { settle, leave };
  }

  #makeRoom(peer: PeerPlaces): void {
    const { maxHandshakes, maxHandshakesPerPeer } = this.#limits;
    const isPeerFull = peer.handshakes.size >= maxHandshakesPerPeer;
    if (!isPeerFull && this.#all.handshakes.size < maxHandshakes) return;
    const [oldest] = isPeerFull ? peer.handshakes : this.#all.handshakes;
    oldest?.leave();
    oldest?.giveWay();
  }

  #isFull(peer: PeerPlaces): boolean {
    const { maxConnections, maxConnectionsPerPeer } = this.#limits;
    return this.#all.connections >= maxConnections || peer.connections >= maxConnectionsPerPeer;
  }
}
