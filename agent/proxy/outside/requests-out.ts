import { relayHttp1, relayHttp2, type RelayedRequests } from '../relays/relayed-requests.ts';
import type { Leaving } from './leaving.ts';

/** The requests of one connection that leaves the mesh, and whom to ask about them. */
export type RequestsOut = Omit<RelayedRequests, 'party' | 'round' | 'endsAtMs' | 'onLeaving'>;

/** Who calls is nobody's business outside of the mesh. */
const NOBODY = new Uint8Array(0);

/** Relays HTTP/1.1, each request by itself, for as long as the connection is let; `first` is what the client has said already. */
export function relayHttp1Out(leaving: Leaving, requests: RequestsOut, first: Uint8Array): void {
  relayHttp1({ ...placeOf(leaving), ...requests }, { first, clientCertLine: NOBODY });
}

/** Relays HTTP/2, each stream by itself; `first` is the client's preface at least. */
export function relayHttp2Out(leaving: Leaving, requests: RequestsOut, first: Uint8Array): void {
  relayHttp2({ ...placeOf(leaving), ...requests }, { first, clientCertBlock: NOBODY });
}

function placeOf({ party, round, endsAtMs, onLeaving }: Leaving) {
  return { party, round, endsAtMs, onLeaving };
}
