import type { StreamFailure } from '../streams/byte-stream.ts';

/** What is spoken within TLS: our own tunnel between agents, or HBONE with those of other meshes. */
export type MeshProtocol = 'tunnel' | 'hbone';

/** The names by which TLS agrees on them (RFC 7301). */
export const ALPN_NAMES: Readonly<Record<MeshProtocol, string>> = { tunnel: 'picket/1', hbone: 'h2' };

/** What reads the bytes of a TLS connection of the mesh. */
export interface MeshWire {
  /** Whether it carries nothing any more, and only waits for the peer to take its end. */
  readonly isLeaving: boolean;
  /** Bytes came from the TLS socket. */
  received(bytes: Uint8Array): void;
  /** The TLS socket takes bytes again. */
  drained(): void;
  /** The TLS socket has ended, in whatever way. Harmless when called again. */
  closed(why: string): void;
  /** Voids what is open, tells the peer as far as the protocol can, and closes. */
  reset(failure: StreamFailure): void;
}

/** What a TLS connection of the mesh asks of whatever is spoken within it, on both sides. */
export interface MeshSession {
  readonly wire: MeshWire;
  /** Opens nothing more on it, and closes it once it carries nothing. */
  retire(): void;
}

/** The called side of it. */
export interface MeshServerSession extends MeshSession {
  /** As `retire`, for one that carries nothing and whose place others want: it waits for nothing that may be on its way, in either direction. */
  giveWay(): void;
}
