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
  /** Connections whose handshake has not ended. */
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

interface PeerCounts {
  connections: number;
  handshakes: number;
}

/** Counts connections, all of them and by peer address. */
export class ConnectionPlaces {
  readonly #limits: CountLimits;
  readonly #all: PeerCounts = { connections: 0, handshakes: 0 };
  readonly #peers = new Map<string, PeerCounts>();

  constructor(limits: CountLimits) {
    this.#limits = limits;
  }

  get connections(): number {
    return this.#all.connections;
  }

  /** Takes a place for a new connection; undefined when a limit is reached. */
  tryEnter(address: string): Place | undefined {
    const peer = this.#peers.get(address) ?? { connections: 0, handshakes: 0 };
    if (this.#isFull(peer)) return undefined;
    this.#peers.set(address, peer);
    const counts = [this.#all, peer];
    for (const count of counts) {
      count.connections += 1;
      count.handshakes += 1;
    }
    let state: 'handshake' | 'open' | 'gone' = 'handshake';
    const settle = (): void => {
      if (state !== 'handshake') return;
      state = 'open';
      for (const count of counts) count.handshakes -= 1;
    };
    const leave = (): void => {
      settle();
      if (state === 'gone') return;
      state = 'gone';
      for (const count of counts) count.connections -= 1;
      if (peer.connections === 0) this.#peers.delete(address);
    };
    return { settle, leave };
  }

  #isFull(peer: PeerCounts): boolean {
    const limits = this.#limits;
    return (
      this.#all.connections >= limits.maxConnections ||
      this.#all.handshakes >= limits.maxHandshakes ||
      peer.connections >= limits.maxConnectionsPerPeer ||
      peer.handshakes >= limits.maxHandshakesPerPeer
    );
  }
}
