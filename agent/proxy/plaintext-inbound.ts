import type { SocketAddress } from '../native/socket-address.ts';
import type { Arrival } from './arrival.ts';
import type { AcceptedSocket, TcpStream } from './tcp-stream.ts';

/** A captured connection from outside of the mesh: its caller proved nothing, and that is decided like anything else (design: decision 19). */
export function arrivalOfPlaintext(
  stream: TcpStream,
  socket: AcceptedSocket,
  request: { readonly destination: SocketAddress; readonly connectionId: string },
): Arrival {
  return {
    ...request,
    caller: null,
    source: socket.remote,
    target: null,
    isLocal: false,
    process: null,
    accept: () => stream,
    deny: () => stream.abort(),
  };
}
