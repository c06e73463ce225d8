import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { SvidVerifier } from '../../shared/spiffe/svid-verifier.ts';
import type { IdentitySource, WorkloadIdentity } from '../identity/identity.ts';
import { isValidAt } from '../identity/svid-life.ts';
import { encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import { HandshakePace } from './handshake-pace.ts';
import type { MeshDialer, MeshObserver, MeshOutcome, MeshRequest } from './mesh.ts';
import {
  OutboundMeshConnection,
  type MeshDial,
  type MeshDialerContext,
  type MeshDialFailure,
} from './mesh-dialer-connection.ts';
import { Gate } from './mesh-dialer-gate.ts';
import { MeshLosses } from './mesh-losses.ts';
import { TicketCache } from './mesh-dialer-tickets.ts';
import { failed, outcomeOf } from './mesh-outcome.ts';
import { MESH_PORT } from './mesh-tls.ts';
import { Pool, type PoolLimits } from './pool.ts';
import type { OpenFrame } from './tunnel-server.ts';

/** What a mesh dialer bears, in numbers. */
export interface MeshDialerLimits extends PoolLimits {
  /** For TCP and TLS together. */
  readonly connectMs: number;
  /** How long the other host may take to decide and to reach its application. */
  readonly answerMs: number;
  /** A connection that is older is not used again. */
  readonly maxAgeMs: number;
  /** Openings that wait for their outcome. */
  readonly maxOpenings: number;
  /** Connections that are being set up to one address; more wait up to `connectMs`. */
  readonly maxHandshakesPerPeer: number;
  /** Tickets that are kept. */
  readonly maxTickets: number;
  /** How long connections may finish what they carry when the dialer stops. */
  readonly drainMs: number;
}

/** `idleMs` is below the listener's, so that it is we who close; `answerMs` above its `openingMs`, so that it is the other host that gives up and records it. */
export const DEFAULT_MESH_DIALER_LIMITS: MeshDialerLimits = {
  connectMs: 10_000,
  answerMs: 35_000,
  idleMs: 300_000,
  maxIdle: 2048,
  maxIdlePerKey: 128,
  maxAgeMs: 3_600_000,
  maxOpenings: 8192,
  maxHandshakesPerPeer: 64,
  maxTickets: 2048,
  drainMs: 2000,
};

export interface MeshDialerOptions {
  /** Where the other agents listen; `MESH_PORT` by default. */
  readonly meshPort?: number;
  /** As `dialMarked` takes it. */
  readonly mark: number;
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<MeshDialerLimits>;
  readonly observer?: MeshObserver;
}

export interface RunningMeshDialer extends MeshDialer, Running {
  /** TLS connections that are open, idle ones included. */
  readonly connections: number;
  readonly idleConnections: number;
  /** As `MeshListener.reconsiderAll`. */
  reconsiderAll(): void;
}

/** Opens connections through the mesh (design: decisions 3, 4 and 27): pooled by own identity, peer identity and peer address. */
export function createMeshDialer(options: MeshDialerOptions): RunningMeshDialer {
  return new Dialer(options);
}

/** A connection that was set up, or why there is none that can be used. */
type Connected =
  | { readonly connection: OutboundMeshConnection; readonly failure?: undefined }
  | { readonly connection?: OutboundMeshConnection; readonly failure: MeshDialFailure };

class Dialer implements RunningMeshDialer {
  readonly #options: MeshDialerOptions;
  readonly #limits: MeshDialerLimits;
  readonly #pool: Pool<OutboundMeshConnection>;
  readonly #tickets: TicketCache;
  readonly #connections = new Set<OutboundMeshConnection>();
  readonly #gates = new Map<string, Gate>();
  readonly #context: MeshDialerContext;
  readonly #unwatch: readonly (() => void)[];
  #openings = 0;
  #isStopped = false;

  constructor(options: MeshDialerOptions) {
    const { identities, clock, log, observer } = options;
    const { bundles } = identities;
    this.#options = options;
    this.#limits = { ...DEFAULT_MESH_DIALER_LIMITS, ...options.limits };
    this.#pool = new Pool(this.#limits, clock);
    this.#tickets = new TicketCache(this.#limits.maxTickets);
    this.#context = {
      clock,
      bundles,
      verifier: new SvidVerifier(),
      pace: new HandshakePace(),
      connectMs: this.#limits.connectMs,
      answerMs: this.#limits.answerMs,
      onHandshake: (outcome) => observer?.handshaken({ side: 'caller', outcome }),
      onTicket: ({ key, caller }, session) => this.#tickets.put(key, caller, session),
      onIdle: (connection) => this.#idle(connection),
      onGone: (connection) => this.#gone(connection),
      losses: new MeshLosses({ side: 'caller', clock, log, observer }),
    };
    this.#unwatch = [
      bundles.watch(() => this.reconsiderAll()),
      identities.identities.watch((current) => this.#identitiesChanged(current)),
    ];
  }

  get connections(): number {
    return this.#connections.size;
  }

  get idleConnections(): number {
    return this.#pool.size;
  }

  async open(request: MeshRequest): Promise<MeshOutcome> {
    if (this.#isStopped || this.#openings >= this.#limits.maxOpenings)
      return failed('overloaded', `${this.#openings} connections are being opened already`);
    if (!isValidAt(request.caller, this.#options.clock.nowMs()))
      return failed('target_unreachable', `The certificate of ${request.caller.spiffeId} is not valid now`);
    this.#openings += 1;
    try {
      return await this.#open(request);
    } finally {
      this.#openings -= 1;
    }
  }

  reconsiderAll(): void {
    this.#tickets.clear();
    for (const connection of Array.from(this.#connections)) {
      this.#pool.remove(connection);
      connection.reconsider();
    }
  }

  /** Opens nothing more, lets what is open end within `drainMs`, and cuts the rest. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    for (const unwatch of this.#unwatch) unwatch();
    this.#tickets.clear();
    for (const connection of Array.from(this.#connections)) this.#retire(connection);
    const { clock } = this.#options;
    const endMs = clock.monotonicMs() + this.#limits.drainMs;
    while (this.#connections.size > 0 && clock.monotonicMs() < endMs)
      await new Promise<void>((resolve) => void clock.schedule(20, resolve));
    for (const connection of Array.from(this.#connections))
      connection.cut({ message: 'The agent of the calling host stops' });
  }

  /**
   * A pooled connection may have died without our knowing, and a resumed session may not please the other side any more: what ends before
   * it was answered delivered nothing, so it is tried again, at last on a new connection with a full handshake.
   */
  async #open(request: MeshRequest): Promise<MeshOutcome> {
    const frame = openFrame(request);
    const dial = this.#dialOf(request);
    return (await this.#openPooled(dial, frame)) ?? (await this.#openFresh(dial, frame));
  }

  async #openPooled(dial: MeshDial, frame: OpenFrame): Promise<MeshOutcome | undefined> {
    const connection = this.#takeIdle(dial);
    if (connection === undefined) return undefined;
    const answer = await connection.open(frame);
    return answer.kind === 'lost' ? undefined : outcomeOf(answer, connection);
  }

  async #openFresh(dial: MeshDial, frame: OpenFrame): Promise<MeshOutcome> {
    const session = this.#tickets.find(dial.key, dial.caller);
    const first = await this.#tryFresh({ ...dial, session }, frame);
    if (!first.wasResumed || first.outcome.kind !== 'failed') return first.outcome;
    this.#tickets.forget(dial.key);
    const second = await this.#tryFresh(dial, frame);
    return second.outcome;
  }

  async #tryFresh(
    dial: MeshDial,
    frame: OpenFrame,
  ): Promise<{ readonly outcome: MeshOutcome; readonly wasResumed: boolean }> {
    const { connection, failure } = await this.#connect(dial);
    if (failure !== undefined) {
      this.#options.log.debug('mesh_dial_failed', { target: dial.target, message: failure.message });
      return { outcome: failure, wasResumed: dial.session !== undefined && connection?.isResumed === true };
    }
    const answer = await connection.open(frame);
    return { outcome: outcomeOf(answer, connection), wasResumed: connection.isResumed };
  }

  /** Only so many at once to one host. What the other host does with an opening is no part of it: an application that is slow holds nobody else up. */
  async #connect(dial: MeshDial): Promise<Connected> {
    const { address } = dial;
    const gate = this.#gateOf(address);
    if (!(await gate.enter(dial.caller.spiffeId, this.#limits.connectMs)))
      return { failure: failed('overloaded', `Too many connections to ${address} are being set up`) };
    const connection = new OutboundMeshConnection(this.#context, dial);
    this.#connections.add(connection);
    const failure = await connection.connect();
    gate.leave();
    if (gate.isUnused) this.#gates.delete(address);
    return failure === undefined ? { connection } : { connection, failure };
  }

  /** A certificate of before its renewal is used for nothing new. */
  #takeIdle(dial: MeshDial): OutboundMeshConnection | undefined {
    for (;;) {
      const connection = this.#pool.take(dial.key);
      if (connection === undefined || isOfCertificate(connection, dial)) return connection;
      connection.retire();
    }
  }

  #idle(connection: OutboundMeshConnection): void {
    if (this.#isStopped || connection.ageMs > this.#limits.maxAgeMs) connection.retire();
    else this.#pool.put(connection.dial.key, connection);
  }

  #gone(connection: OutboundMeshConnection): void {
    this.#connections.delete(connection);
    this.#pool.remove(connection);
  }

  #retire(connection: OutboundMeshConnection): void {
    this.#pool.remove(connection);
    connection.retire();
  }

  /** A workload whose certificate was replaced or withdrawn opens nothing more with the old one. */
  #identitiesChanged(current: ReadonlyMap<string, WorkloadIdentity>): void {
    const chains = new Set(Array.from(current.values(), ({ svid }) => svid.chainPem));
    for (const connection of Array.from(this.#connections))
      if (!chains.has(connection.dial.caller.chainPem)) this.#retire(connection);
  }

  #dialOf({ caller, target, destination }: MeshRequest): MeshDial {
    const { address } = destination;
    const port = this.#options.meshPort ?? MESH_PORT;
    const key = `${caller.spiffeId} ${target} ${address}`;
    return { key, caller, target, address, port, mark: this.#options.mark, session: undefined };
  }

  #gateOf(address: string): Gate {
    const gate = this.#gates.get(address) ?? new Gate(this.#limits.maxHandshakesPerPeer, this.#options.clock);
    this.#gates.set(address, gate);
    return gate;
  }
}

function isOfCertificate(connection: OutboundMeshConnection, dial: MeshDial): boolean {
  return connection.dial.caller.chainPem === dial.caller.chainPem;
}

function openFrame({ connectionId, destination, source }: MeshRequest): OpenFrame {
  return {
    type: 'open',
    connectionId,
    destination: toFrameAddress(destination),
    source: toFrameAddress(source),
  };
}

function toFrameAddress({ address, port }: SocketAddress): OpenFrame['source'] {
  return { address: encodeIpAddress(address), port };
}
