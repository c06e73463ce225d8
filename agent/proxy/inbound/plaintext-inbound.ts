import type { Arrival } from './arrival.ts';
import type { TcpStream } from '../streams/tcp-stream.ts';

/** A captured connection from outside of the mesh: its caller proved nothing, and that is decided like anything else. */
export function arrivalOfPlaintext(
  stream: TcpStream,
  request: Pick<Arrival, 'source' | 'destination' | 'connectionId'>,
): Arrival {
  return {
    ...request,
    caller: null,
    target: null,
    isLocal: false,
    endsAtMs: Infinity,
    process: null,
    findLoss: () => undefined,
    onLeaving: () => undefined,
    accept: () => stream,
    deny: () => stream.abort(),
  };
}
