import type { HeldSvid } from '../../identity/identity.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { Arrival } from '../inbound/arrival.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import type { Party } from '../connections/connections.ts';
import { encounterOf, type Departure } from '../outbound/departure.ts';
import type { Encounter, Refusal } from '../judge/judge.ts';

/** A connection that is to leave the mesh: of a program of this host, or brought to this host as a gateway. */
export interface Leaving {
  /** On whose account it goes. */
  readonly party: Party;
  /** As it is decided by its address. */
  readonly encounter: Encounter;
  readonly destination: SocketAddress;
  readonly connectionId: string;
  /** As whom a gateway is called; null for a program without identity, and on a gateway. */
  readonly svid: HeldSvid | null;
  /** When what it is permitted by was looked at (`OpenConnections.round`). */
  readonly round: number;
  /** When its connection will be cut because a certificate ends, by the monotonic clock; `Infinity` for a connection without. */
  readonly endsAtMs: number;
  /** Why it has lost what it was permitted by, besides the policy. */
  readonly findLoss: () => Refusal | undefined;
  /** As of an arrival. */
  readonly onLeaving: Arrival['onLeaving'];
  /** The stream, once there is something to be heard or said. */
  readonly accept: () => ByteStream;
  /** Ends it, accepted or not. */
  readonly deny: (failure: StreamFailure) => void;
}

/** A captured connection that leads out of the mesh. */
export function leavingOfDeparture(departure: Departure, findLoss: Leaving['findLoss']): Leaving {
  const { stream, party, destination, connectionId, svid, round } = departure;
  return {
    party,
    destination,
    connectionId,
    svid,
    round,
    encounter: encounterOf(departure, null),
    endsAtMs: Infinity,
    findLoss,
    onLeaving: () => undefined,
    accept: () => stream,
    deny: (failure) => stream.abort(failure),
  };
}
