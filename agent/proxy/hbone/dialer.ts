import { SvidVerifier } from '../../../shared/spiffe/svid-verifier.ts';
import type { WorkloadIdentity } from '../../identity/identity.ts';
import { HandshakePace } from '../mesh/handshake-pace.ts';
import { HboneClient, type HboneOutcome } from './client.ts';
import { HBONE_LIMITS } from './limits.ts';
import { OutboundMeshConnection, type MeshDial, type MeshDialerContext } from '../mesh/dialer-connection.ts';
import type { MeshDialerOptions, RunningMeshDialer } from '../mesh/dialer-options.ts';
import { endWithin } from '../mesh/end-within.ts';
import { MeshLosses } from '../mesh/losses.ts';
import { Openings } from '../mesh/openings.ts';
import { failed, outcomeOf, type UsedConnection } from '../mesh/outcome.ts';
import { isInUse } from '../mesh/served-identities.ts';
import { MESH_PORT } from '../mesh/tls.ts';
import type { MeshOutcome, MeshRequest } from '../mesh/mesh.ts';

/** What an HBONE dialer bears, in numbers. */
export interface HboneDialerLimits {
  /** For TCP and TLS together. */
  readonly connectMs: number;
  readonly answerMs: number;
  /** How long a connection waits for its next use. */
  readonly idleMs: number;
  /** A connection that is older is not used again. */
  readonly maxAgeMs: number;
  /** To one address for one pair of identities and certificates, those left out that only end what they carry. */
  readonly maxConnections: number;
  /** Openings that wait for their outcome. */
  readonly maxOpenings: number;
  /** How long connections may finish what they carry when the dialer stops. */
  readonly drainMs: number;
}

/** Times as ztunnel has them, or as between our own agents. */
const DEFAULT_HBONE_DIALER_LIMITS: HboneDialerLimits = {
  connectMs: 10_000,
  answerMs: 35_000,
  idleMs: 300_000,
  maxAgeMs: 3_600_000,
  maxConnections: 128,
  maxOpenings: 8192,
  drainMs: 2000,
};

export type HboneDialerOptions = Omit<MeshDialerOptions, 'limits'> & {
  readonly limits?: Partial<HboneDialerLimits>;
};

/**
 * Opens connections to HBONE peers. Connections are shared by own identity, peer identity and peer address, with as many streams as the peer takes; one more is made where
 * all are full. A CONNECT is asked again, once and on a new connection, only where the peer has not answered it: no byte of the application was sent then.
 */
export function createHboneDialer(options: HboneDialerOptions): RunningMeshDialer {
  return new HboneDialer(options);
}

type Connection = OutboundMeshConnection<HboneClient>;

/** A connection with those who wait for it. */
interface Line {
  readonly connection: Connection;
  /** Grows with each. */
  readonly serial: number;
  /** Undefined when it can be used. */
  readonly ready: Promise<MeshOutcome | undefined>;
  isReady: boolean;
  /** Openings that wait for it to be ready. */
  waiting: number;
  cancelIdle: () => void;
}

/** How often a CONNECT is asked that nobody has looked at. */
const MAX_ASKED = 2;
const BARREN: HboneOutcome = {
  kind: 'lost',
  failure: { message: 'The other host takes no streams' },
};

/** How many connections are waited for that others fill first, before it counts as too much. */
const MAX_ROUNDS = 16;

/** As `idleMs`, once the agent goes. */
const DRAINING_IDLE_MS = 100;

class HboneDialer implements RunningMeshDialer {
  readonly #options: HboneDialerOptions;
  readonly #limits: HboneDialerLimits;
  readonly #context: MeshDialerContext<HboneClient>;
  readonly #openings: Openings;
  readonly #lines = new Map<string, Set<Line>>();
  readonly #byConnection = new Map<Connection, Line>();
  readonly #unwatch: readonly (() => void)[];
  #serial = 0;
  #isStopped = false;
  #isDraining = false;

  constructor(options: HboneDialerOptions) {
    const { clock, log, observer, identities } = options;
    this.#options = options;
    this.#limits = { ...DEFAULT_HBONE_DIALER_LIMITS, ...options.limits };
    const { answerMs, connectMs, maxOpenings } = this.#limits;
    this.#openings = new Openings(maxOpenings, clock);
    this.#context = {
      protocol: 'hbone',
      createClient: (socket, events) => new HboneClient({ socket, clock, answerMs, ...events }),
      clock,
      bundles: identities.bundles,
      verifier: new SvidVerifier(),
      pace: new HandshakePace(),
      connectMs,
      onHandshake: (outcome) => observer?.handshaken({ side: 'caller', outcome, protocol: 'hbone' }),
      onTicket: () => undefined,
      onIdle: (connection) => this.#idle(connection),
      onGone: (connection) => this.#gone(connection),
      losses: new MeshLosses({ side: 'caller', clock, log, observer }),
    };
    this.#unwatch = [
      identities.bundles.watch(() => this.reconsiderAll()),
      identities.identities.watch((current) => this.#identitiesChanged(current)),
    ];
  }

  get connections(): number {
    return this.#byConnection.size;
  }

  get idleConnections(): number {
    return [...this.#byConnection.values()].filter(isIdle).length;
  }

  get leavingConnections(): number {
    return [...this.#byConnection.keys()].filter(({ isLeaving }) => isLeaving).length;
  }

  async open(request: MeshRequest): Promise<MeshOutcome> {
    return await this.#openings.admit(request.caller, async () => await this.#open(request));
  }

  reconsiderAll(): void {
    for (const connection of Array.from(this.#byConnection.keys())) connection.reconsider();
  }

  drain(): void {
    this.#isDraining = true;
    for (const connection of Array.from(this.#byConnection.keys())) connection.retire();
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#openings.stop();
    for (const unwatch of this.#unwatch) unwatch();
    for (const connection of Array.from(this.#byConnection.keys())) connection.retire();
    await endWithin(this.#limits.drainMs, {
      clock: this.#options.clock,
      isEnded: () => this.connections === 0,
    });
    for (const connection of Array.from(this.#byConnection.keys()))
      connection.cut({ message: 'The agent of the calling host stops' });
  }

  async #open(request: MeshRequest): Promise<MeshOutcome> {
    const dial = this.#dialOf(request);
    const { connectionId, destination, source, caller } = request;
    const asked = { caller: caller.spiffeId, destination, source, connectionId };
    let [timesAsked, after] = [0, 0];
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const line = this.#findLine(dial, after) ?? this.#tryNewLine(dial);
      if (line === undefined)
        return failed('overloaded', `${dial.address} takes too few streams on each of many connections`);
      const use = line.isReady ? 'pooled' : 'new';
      const failure = await waitFor(line);
      if (failure !== undefined) return failure;
      const { connection } = line;
      // One that came up and takes no stream at all is as good as asked.
      const answer =
        (await connection.client?.open(asked)) ??
        (connection.establishedClient?.isBarren ? BARREN : undefined);
      if (answer === undefined) continue;
      if (answer.kind !== 'lost') return meshOutcomeOf(answer, { connection, use }, connectionId);
      timesAsked += 1;
      if (timesAsked === MAX_ASKED) return failed('target_unreachable', answer.failure.message);
      after = line.serial;
    }
    return failed('overloaded', `Too many connections to ${dial.address} are being opened`);
  }

  /** One with room that was made after the one of that serial. */
  #findLine({ key, caller }: MeshDial, after: number): Line | undefined {
    for (const line of this.#lines.get(key) ?? [])
      if (
        line.serial > after &&
        line.connection.dial.caller.chainPem === caller.chainPem &&
        this.#hasRoom(line)
      )
        return line;
    return undefined;
  }

  #hasRoom({ connection, isReady, waiting }: Line): boolean {
    if (!isReady) return waiting < HBONE_LIMITS.ownStreams;
    if (connection.ageMs > this.#limits.maxAgeMs) {
      connection.retire();
      return false;
    }
    return (connection.client?.freeStreams ?? 0) > 0;
  }

  #tryNewLine(dial: MeshDial): Line | undefined {
    const { chainPem } = dial.caller;
    let count = 0;
    for (const { connection } of this.#lines.get(dial.key) ?? [])
      if (connection.dial.caller.chainPem === chainPem && connection.establishedClient?.isRetired !== true)
        count += 1;
    return count < this.#limits.maxConnections ? this.#newLine(dial) : undefined;
  }

  #newLine(dial: MeshDial): Line {
    const connection = new OutboundMeshConnection(this.#context, dial);
    const line: Line = {
      connection,
      serial: (this.#serial += 1),
      ready: connection.connect(),
      isReady: false,
      waiting: 0,
      cancelIdle: () => undefined,
    };
    this.#byConnection.set(connection, line);
    const lines = this.#lines.get(dial.key) ?? new Set();
    this.#lines.set(dial.key, lines.add(line));
    this.#idle(connection);
    return line;
  }

  #idle(connection: Connection): void {
    const line = this.#byConnection.get(connection);
    if (line === undefined) return;
    line.cancelIdle();
    const idleMs = this.#isDraining ? DRAINING_IDLE_MS : this.#limits.idleMs;
    line.cancelIdle = this.#options.clock.schedule(idleMs, () => {
      if (isIdle(line)) connection.retire();
    });
  }

  #gone(connection: Connection): void {
    const line = this.#byConnection.get(connection);
    if (line === undefined) return;
    this.#byConnection.delete(connection);
    line.cancelIdle();
    const { key } = connection.dial;
    const lines = this.#lines.get(key);
    lines?.delete(line);
    if (lines?.size === 0) this.#lines.delete(key);
  }

  /** A workload whose certificate was replaced or withdrawn opens nothing more with the old one. */
  #identitiesChanged(current: ReadonlyMap<string, WorkloadIdentity>): void {
    for (const connection of Array.from(this.#byConnection.keys()))
      if (!isInUse(current, connection.dial.caller)) connection.retire();
  }

  #dialOf({ caller, target, destination }: MeshRequest): MeshDial {
    const { address } = destination;
    const port = this.#options.meshPort ?? MESH_PORT;
    const key = `${caller.spiffeId} ${target} ${address}`;
    return {
      key,
      caller,
      target,
      address,
      port,
      mark: this.#options.mark,
      session: undefined,
      patienceMs: Infinity,
      isAnsweredSlowly: false,
    };
  }
}

async function waitFor(line: Line): Promise<MeshOutcome | undefined> {
  if (line.isReady) return undefined;
  line.waiting += 1;
  const failure = await line.ready;
  line.waiting -= 1;
  line.isReady = true;
  return failure;
}

/** A decision that the other host gave no id is told under ours. */
function meshOutcomeOf(
  answer: Exclude<HboneOutcome, { kind: 'lost' }>,
  used: UsedConnection,
  connectionId: string,
): MeshOutcome {
  if (answer.kind === 'accepted') return outcomeOf(answer, used);
  const { failure } = answer;
  if (answer.kind === 'denied')
    return outcomeOf({ kind: 'denied', failure: { decisionId: connectionId, ...failure } }, used);
  return outcomeOf({ kind: 'late', failure }, used);
}

function isIdle({ connection, isReady, waiting }: Line): boolean {
  return isReady && waiting === 0 && connection.establishedClient?.streams === 0;
}
