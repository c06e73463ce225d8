import { handshakeFailure } from '../../../shared/runtime/handshake-failure.ts';
import { codeOf, type NativeSocket } from '../streams/bun-socket.ts';

/** Who owns a TLS socket of the mesh and hears what happens on it. */
export interface MeshSocketOwner {
  /** The socket is there; for a client it may still be connecting. */
  opened(socket: NativeSocket<MeshSocketOwner>): void;
  /** The handshake has ended, with an error's symbol if it failed. Whether the peer is to be trusted is not said. */
  handshaken(failure: string | undefined): void;
  received(bytes: Uint8Array): void;
  drained(): void;
  /** A client got a ticket with which the session can be resumed. */
  ticket(session: Uint8Array): void;
  /** The peer sends no more, or the socket is gone, with an errno's symbol where there is one. It may be called twice. */
  closed(why: string): void;
}

type OwnedSocket = NativeSocket<MeshSocketOwner>;

/** Bun's handlers for every TLS socket of the mesh; the owner is the socket's `data`. */
export const meshSocketHandlers = {
  open: (socket: OwnedSocket) => socket.data.opened(socket),
  handshake: (socket: OwnedSocket, isAuthorized: boolean, error: Error | null) =>
    socket.data.handshaken(handshakeFailure(isAuthorized, error)),
  data: (socket: OwnedSocket, bytes: Uint8Array) => socket.data.received(bytes),
  drain: (socket: OwnedSocket) => socket.data.drained(),
  session: (socket: OwnedSocket, session: Uint8Array) => socket.data.ticket(session),
  end: (socket: OwnedSocket) => socket.data.closed('it was ended'),
  close: (socket: OwnedSocket, error?: Error) =>
    socket.data.closed(error === undefined ? 'it was closed' : codeOf(error)),
  // Bun calls `close` as well.
  error: () => undefined,
} as unknown as Bun.SocketHandler<MeshSocketOwner>;
