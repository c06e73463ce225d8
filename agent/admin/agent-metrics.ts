import { Counter, type Registry } from 'prom-client';
import type { Distance } from '../directory/service-index.ts';
import type { MemberFailure } from '../services/services.ts';
import type { PolicyObserver } from '../policy/policy-holder.ts';
import type { DecidedRecord, DecisionKind } from '../proxy/records/proxy-observer.ts';
import { DecisionFigures } from './decision-figures.ts';
import type { UnknownUser } from '../../shared/policy/circumstances.ts';
import type { AgentState } from './status.ts';

/** A TLS handshake between agents: which side we were, and what came of it. */
export interface Handshake {
  readonly side: 'caller' | 'called';
  readonly outcome: 'full' | 'resumed' | 'failed';
  readonly protocol?: 'tunnel' | 'hbone';
}

/** The agent's figures. What happens is counted here. */
export class AgentMetrics implements PolicyObserver {
  readonly #decisions: DecisionFigures;
  readonly #handshakes: Counter<'side' | 'outcome'>;
  readonly #hboneHandshakes: Counter<'side' | 'outcome'>;
  readonly #crowd: AgentState['crowd'];
  readonly #unkept: Counter<'what'>;
  readonly #broken: Counter<'side'>;
  readonly #spares: Counter<'what'>;
  readonly #policyRefusals: Counter<'reason'>;
  readonly #userTokens: Counter<'outcome'>;
  readonly #spansLost: Counter<'why'>;
  readonly #membersTaken: Counter<'distance'>;
  readonly #membersEjected: Counter<'why'>;

  /** How the agent stands is not among them: see `addStateFigures`. */
  constructor(registry: Registry, options: Pick<AgentState, 'crowd'>) {
    const registers = [registry];
    this.#decisions = new DecisionFigures(registry);
    this.#handshakes = new Counter({
      name: 'picket_mesh_handshakes_total',
      help: 'TLS handshakes between agents.',
      labelNames: ['side', 'outcome'],
      registers,
    });
    this.#hboneHandshakes = new Counter({
      name: 'picket_hbone_handshakes_total',
      help: 'Of the TLS handshakes of the mesh those for HBONE, with nodes of other meshes.',
      labelNames: ['side', 'outcome'],
      registers,
    });
    this.#crowd = options.crowd;
    this.#unkept = new Counter({
      name: 'picket_state_write_failures_total',
      help: 'What could not be written to disk: it is in force, and a restart would miss it.',
      labelNames: ['what'],
      registers,
    });
    this.#broken = new Counter({
      name: 'picket_mesh_broken_total',
      help: 'Connections between agents that broke while they carried something.',
      labelNames: ['side'],
      registers,
    });
    this.#spares = new Counter({
      name: 'picket_mesh_spares_total',
      help: 'Connections to other agents that were made before anybody asked for them: made, taken by a connection of a program, ended unused, or failed.',
      labelNames: ['what'],
      registers,
    });
    this.#policyRefusals = new Counter({
      name: 'picket_policy_refusals_total',
      help: 'Policies of the server that were not taken.',
      labelNames: ['reason'],
      registers,
    });
    this.#userTokens = new Counter({
      name: 'picket_user_tokens_total',
      help: 'User tokens that were verified: known, or why they are nobody’s. One that is remembered is not counted again.',
      labelNames: ['outcome'],
      registers,
    });
    this.#spansLost = new Counter({
      name: 'picket_spans_lost_total',
      help: 'Spans that never reached the receiver of traces: the queue was full, or it did not take them.',
      labelNames: ['why'],
      registers,
    });
    this.#membersTaken = new Counter({
      name: 'picket_service_connections_total',
      help: 'Connections to services in several places, by how far the member is that took them.',
      labelNames: ['distance'],
      registers,
    });
    this.#membersEjected = new Counter({
      name: 'picket_service_ejections_total',
      help: 'How often a member of a service was passed over from then on, for a while.',
      labelNames: ['why'],
      registers,
    });
  }

  /** A decision was recorded. */
  decided(record: DecidedRecord): void {
    this.#decisions.decided(record);
  }

  /** Counts decisions of one kind. */
  counterOf(kind: DecisionKind): (latencyUs: number) => void {
    return this.#decisions.counterOf(kind);
  }

  /** A handshake with another agent ended. */
  handshaken({ side, outcome, protocol }: Handshake): void {
    this.#handshakes.inc({ side, outcome });
    if (protocol === 'hbone') this.#hboneHandshakes.inc({ side, outcome });
  }

  /** A connection of another host was turned away because places ran short. */
  turnedAway(why: 'unproven' | 'idle' | 'full'): void {
    this.#crowd.note(why);
  }

  /** The disk did not take what is in force: what the server told, or the policy. */
  unkept(what: 'state' | 'policy'): void {
    this.#unkept.inc({ what });
  }

  /** A connection to a service was taken. */
  memberTaken(distance: Distance): void {
    this.#membersTaken.inc({ distance });
  }

  /** A member of a service is passed over from now on. */
  memberEjected(why: MemberFailure): void {
    this.#membersEjected.inc({ why });
  }

  /** A connection to another agent broke. */
  broke(side: Handshake['side']): void {
    this.#broken.inc({ side });
  }

  /** What became of a connection to another agent that nobody had asked for yet. */
  spare(what: 'made' | 'taken' | 'unused' | 'failed'): void {
    this.#spares.inc({ what });
  }

  /** A user's token was looked at. */
  userVerified(outcome: 'known' | UnknownUser['reason']): void {
    this.#userTokens.inc({ outcome });
  }

  /** Spans of traces were dropped. */
  spansLost(why: 'queue_full' | 'not_taken', count: number): void {
    this.#spansLost.inc({ why }, count);
  }

  inForce(): void {
    // Which policy is in force is read from the state.
  }

  refused(reason: string): void {
    this.#policyRefusals.inc({ reason });
  }
}
