import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Directory } from '../../directory/directory.ts';
import type { GatewayReach } from './gateway-reach.ts';
import type { Arrival } from '../inbound/arrival.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import type { OpenConnections } from '../connections/connections.ts';
import { partyOf } from '../inbound/inbound-carrier.ts';
import type { Encounter, Refusal } from '../judge/judge.ts';
import type { Leaving } from './leaving.ts';
import type { Outside } from './outside.ts';

export interface GatewayOptions {
  readonly directory: Pick<Directory, 'isGateway'>;
  readonly reach: GatewayReach;
  readonly connections: OpenConnections;
  readonly outside: Outside;
  /** The agent's own, at which the gateway's identity is registered. */
  readonly meshPort: number;
}

/**
 * A gateway out of the mesh: another destination rule for what comes in. It must be registered here, and this process must earn its identity; then the policy decides who
 * leaves, whereto, as on the program's host (`Outside`). Nothing goes to where only the gateway's own host could reach.
 */
export class Gateway {
  readonly #options: GatewayOptions;

  constructor(options: GatewayOptions) {
    this.#options = options;
  }

  /** Whether what asks for that identity is to be taken out. */
  isFor(target: SpiffeId): boolean {
    return this.#options.directory.isGateway(target, this.#options.meshPort);
  }

  /** Sees an arrival out of the mesh, or says why not. Rejects where it cannot be told. */
  async receive(arrival: Arrival, gateway: SpiffeId): Promise<Refusal | undefined> {
    const { reach, outside, connections } = this.#options;
    const { round } = connections;
    const refusal = await reach.findRefusal(gateway, arrival.destination);
    if (refusal !== undefined) return refusal;
    await outside.leave(leavingOf(arrival, { gateway, reach, round }));
    return undefined;
  }
}

/** What came to a gateway, as what leaves by it. */
export function leavingOf(
  arrival: Arrival,
  {
    gateway,
    reach,
    round,
  }: {
    readonly gateway: SpiffeId;
    readonly reach: Pick<GatewayReach, 'findLoss'>;
    readonly round: number;
  },
): Leaving {
  const { destination, connectionId, endsAtMs } = arrival;
  let accepted: ByteStream | undefined;
  return {
    party: partyOf(arrival),
    encounter: encounterAt(gateway, arrival),
    destination,
    connectionId,
    svid: null,
    round,
    endsAtMs,
    findLoss: () => reach.findLoss(gateway) ?? arrival.findLoss(),
    onLeaving: (listener) => arrival.onLeaving(listener),
    accept: () => (accepted ??= arrival.accept()),
    deny: (failure) => {
      if (accepted !== undefined) return accepted.abort(failure);
      const { reason = 'target_unreachable', decisionId = connectionId, message } = failure;
      arrival.deny({ reason, decisionId, message });
    },
  };
}

/** Who asks a gateway for what. */
export function encounterAt(gateway: SpiffeId, arrival: Arrival): Encounter {
  const { caller, source, destination, process, passage } = arrival;
  return {
    direction: 'inbound',
    via: gateway,
    caller: {
      spiffeId: caller?.spiffeId ?? null,
      ...source,
      certificateNotAfterMs: caller?.notAfterMs ?? 0,
      ...(caller?.serial === undefined ? {} : { certificateSerial: caller.serial }),
    },
    target: { spiffeId: null, ...destination },
    process,
    passage,
  };
}
