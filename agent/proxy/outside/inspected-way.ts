import type { EgressTerms } from '../../../shared/policy/egress-terms.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { domainNameOf } from '../../egress/domain-name.ts';
import type { OpenConnections } from '../connections/connections.ts';
import type { FairTurns } from '../connections/fair-turns.ts';
import type { Encounter, Judge, Judgement, Refusal } from '../judge/judge.ts';
import { failureOf } from '../judge/judgement-failure.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import type { Traces } from '../../traces/traces.ts';
import { InspectedConnection, type DecidedByHello } from './inspected-connection.ts';
import { InspectedRequests } from './inspected-requests.ts';
import type { Inspector } from './inspector.ts';
import type { Leaving } from './leaving.ts';

export interface InspectedWayOptions {
  readonly judge: Judge;
  readonly connections: OpenConnections;
  readonly turns: FairTurns;
  readonly clock: Clock;
  /** Undefined: this host has no authority to inspect with. */
  readonly inspector: Inspector | undefined;
  /** Unless given, nothing is traced. */
  readonly traces?: Traces | undefined;
  /** Why a connection has lost what it was permitted by, besides the policy. */
  readonly findLoss: (leaving: Leaving, encounter: Encounter) => StreamFailure | undefined;
}

/** A connection that the policy lets out if its TLS is inspected. */
export interface ToInspect extends DecidedByHello {
  readonly encounter: Encounter;
}

/**
 * The way out for what the policy wants inspected: TLS of our own to the server, which must prove itself to us; the program's TLS, which ends here; and between them requests that are decided
 * one by one, as in plaintext. What is not HTTP within is refused: nobody could say what it is.
 */
export class InspectedWay {
  readonly #options: InspectedWayOptions;

  constructor(options: InspectedWayOptions) {
    this.#options = options;
  }

  /** Sees a connection out. */
  async leave(leaving: Leaving, { encounter, judgement, first }: ToInspect): Promise<void> {
    const { judge } = this.#options;
    const inspected = inspectedOf(encounter, judgement.verdict.terms);
    const connection = this.#prepare(leaving, inspected, judgement);
    if (connection instanceof InspectedConnection) return await connection.leave({ judgement, first });
    const refusal = { ...connection, decisionId: judgement.decisionId };
    leaving.deny(failureOf(judge.refuse(inspected, refusal)));
  }

  #prepare(leaving: Leaving, connection: Encounter, { verdict }: Judgement): InspectedConnection | Refusal {
    const { inspector } = this.#options;
    if (inspector === undefined) return { reason: 'inspection_not_configured' };
    const name = domainNameOf(connection.tls?.serverName ?? '');
    if (name === undefined)
      return { reason: 'inspection_refused', message: 'The program asks for no server by name' };
    const { connectionId } = leaving;
    const { terms } = verdict;
    const requests = new InspectedRequests({ ...this.#options, connection, connectionId, name, terms });
    return new InspectedConnection({ ...this.#options, inspector, leaving, requests });
  }
}

function inspectedOf(encounter: Encounter, terms: EgressTerms | undefined): Encounter {
  return { ...encounter, isInspected: true, ...(terms?.via === undefined ? {} : { via: terms.via }) };
}
