import { isIPv4 } from 'node:net';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Directory } from '../../directory/directory.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { formatSocketAddress } from '../streams/bun-socket.ts';
import type { Encounter, Judge, Refusal } from '../judge/judge.ts';
import type { Leaving } from './leaving.ts';
import type { MeshDialer, MeshOutcome } from '../mesh/mesh.ts';
import { refusalOf } from '../mesh/way.ts';

export interface GatewayRouteOptions {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly dialer: MeshDialer;
  /** Whether this host takes out what a gateway identity of its own is named for. */
  readonly isGatewayHost: boolean;
  /** Of this host. */
  readonly meshPort: number;
  readonly clock: Clock;
}

/** Hosts of one gateway that are tried for one connection. */
const MAX_TRIES = 3;
/** How long a host that could not be reached comes after the others. */
const AVOIDED_MS = 30_000;

/** For connecting to a host, and for a sign of it, as long as there is another to go to. */
const PATIENCE_MS = 3000;

/** What a host that denies says of itself, and not of what was asked: another may be asked. A denial by the policy is one wherever it is said. */
const OF_THE_HOST: ReadonlySet<Refusal['reason']> = new Set([
  'listener_unidentified',
  'listener_not_registered',
  'audit_unavailable',
  'overloaded',
  'quarantined',
]);
/** What says nothing of the host: it is not kept from others. */
const OF_US: ReadonlySet<Refusal['reason']> = new Set(['overloaded', 'quarantined', 'caller_untrusted']);

/** A connection that a gateway has taken. */
export interface GatewayExit {
  readonly far: ByteStream;
  /** With the certificate by which the gateway proved itself. */
  readonly encounter: Encounter;
  /** As of a `MeshOutcome`. */
  readonly leave: () => void;
}

/**
 * The way through the mesh to a gateway: to a host that is registered as the gateway which the policy names, and proves to be it. Where none can be reached nothing leaves,
 * least of all directly.
 */
export class GatewayRoute {
  readonly #options: GatewayRouteOptions;
  /** When each host failed, by the monotonic clock; no more of them than are registered. */
  readonly #failedAtMs = new Map<string, number>();
  #turn = 0;

  constructor(options: GatewayRouteOptions) {
    this.#options = options;
  }

  /** Whether this host is that gateway: what its own programs send through it leaves from here. */
  isHere(gateway: SpiffeId): boolean {
    const { isGatewayHost, directory, meshPort } = this.#options;
    return isGatewayHost && directory.isGateway(gateway, meshPort);
  }

  /** Opens a connection at the gateway that `encounter` names. Never rejects. */
  async open(
    leaving: Leaving,
    encounter: Encounter,
    gateway: SpiffeId,
  ): Promise<GatewayExit | { readonly refusal: Refusal }> {
    if (leaving.svid === null)
      return refused('caller_unidentified', 'A gateway is called with an identity, and the program has none');
    const places = this.#inOrder(gateway);
    let last = refused('target_unreachable', `No other host is registered as the gateway ${gateway}`);
    for (const [i, place] of places.entries()) {
      const at = { ...encounter, target: { ...encounter.target, spiffeId: gateway, ...place } };
      const hold = this.#options.judge.findHold(at);
      if (hold !== undefined) {
        last = { refusal: hold };
        continue;
      }
      encounter.passage?.asks(place);
      const outcome = await this.#options.dialer.open({
        caller: leaving.svid,
        target: gateway,
        at: place,
        destination: leaving.destination,
        source: encounter.caller,
        connectionId: leaving.connectionId,
        // It has a server to dial before it answers.
        ...(i + 1 < places.length ? { patienceMs: PATIENCE_MS, isAnsweredSlowly: true } : {}),
      });
      const found = this.#judgeOutcome(outcome, { place, encounter });
      if (!('refusal' in found) || isFinal(outcome)) return found;
      last = found;
    }
    return last;
  }

  #judgeOutcome(
    outcome: MeshOutcome,
    { place, encounter }: { readonly place: SocketAddress; readonly encounter: Encounter },
  ): GatewayExit | { readonly refusal: Refusal } {
    if (outcome.kind !== 'accepted') {
      if (!isFinal(outcome) && !OF_US.has(refusalOf(outcome).reason))
        this.#failedAtMs.set(formatSocketAddress(place), this.#options.clock.monotonicMs());
      return { refusal: refusalOf(outcome) };
    }
    this.#failedAtMs.delete(formatSocketAddress(place));
    const { stream: far, peerSerial: certificateSerial, use, leave } = outcome;
    const proven = { ...encounter, target: { ...encounter.target, certificateSerial } };
    encounter.passage?.opened(proven, use);
    // A certificate of a quarantined node may answer at the address of another.
    const hold = this.#options.judge.findHold(proven);
    if (hold === undefined) return { far, encounter: proven, leave };
    far.abort();
    return { refusal: hold };
  }

  /** One after the other takes its turn, by IPv4 where it can: a host with an address of each family would else be tried twice. Those that failed a moment ago come last. */
  #inOrder(gateway: SpiffeId): readonly SocketAddress[] {
    const places = this.#options.directory.findGateways(gateway);
    const turn = this.#turn++;
    const [fours, sixes] = [places.filter(isOfIpv4), places.filter((place) => !isOfIpv4(place))];
    const turned = [...rotate(fours, turn), ...rotate(sixes, turn)];
    const sinceMs = this.#options.clock.monotonicMs() - AVOIDED_MS;
    for (const [place, atMs] of this.#failedAtMs) if (atMs < sinceMs) this.#failedAtMs.delete(place);
    const isAvoided = (place: SocketAddress): boolean => this.#failedAtMs.has(formatSocketAddress(place));
    const inOrder = [
      ...turned.filter((place) => !isAvoided(place)),
      ...turned.filter((place) => isAvoided(place)),
    ];
    return inOrder.slice(0, MAX_TRIES);
  }
}

function isOfIpv4({ address }: SocketAddress): boolean {
  return isIPv4(address);
}

function rotate<T>(list: readonly T[], by: number): readonly T[] {
  if (list.length === 0) return list;
  const first = by % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}

/** Whether no other host is to be asked. */
function isFinal(outcome: MeshOutcome): boolean {
  if (outcome.kind === 'accepted' || outcome.reason === 'caller_untrusted') return true;
  return outcome.kind === 'denied' && !OF_THE_HOST.has(refusalOf(outcome).reason);
}

function refused(reason: Refusal['reason'], message: string): { readonly refusal: Refusal } {
  return { refusal: { reason, message } };
}
