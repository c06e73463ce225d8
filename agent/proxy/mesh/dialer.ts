import { SvidVerifier } from '../../../shared/spiffe/svid-verifier.ts';
import type { HeldSvid, WorkloadIdentity } from '../../identity/identity.ts';
import { isValidAt } from '../../identity/svid-life.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import { HandshakePace } from './handshake-pace.ts';
import type { MeshOutcome, MeshRequest } from './mesh.ts';
import {
  OutboundMeshConnection as MeshConnection,
  type MeshDial,
  type MeshDialerContext,
  type MeshDialFailure,
} from './dialer-connection.ts';
import { Gates, type Gate } from './dialer-gate.ts';
import {
  DEFAULT_MESH_DIALER_LIMITS,
  type MeshDialerLimits,
  type MeshDialerOptions,
  type RunningMeshDialer,
} from './dialer-options.ts';
import { endWithin } from './end-within.ts';
import { MeshLosses } from './losses.ts';
import { TicketCache } from './dialer-tickets.ts';
import { buildOpenFrame } from './open-frame.ts';
import { Openings } from './openings.ts';
import { failed, outcomeOf } from './outcome.ts';
import { MESH_PORT } from './tls.ts';
import { Pool } from './pool.ts';
import { findServed, isInUse } from './served-identities.ts';
import { Spares, type SpareRoute } from './spares.ts';
import { TunnelClient, type TunnelAnswer } from '../tunnel/client.ts';
import type { OpenFrame } from '../tunnel/server.ts';

/** Opens connections through the mesh: pooled by own identity, peer identity and peer address. */
export function createMeshDialer(options: MeshDialerOptions): RunningMeshDialer {
  return new Dialer(options);
}

type TunnelConnection = MeshConnection<TunnelClient>;

/** A connection that was set up, or why there is none that can be used. */
type Connected =
  | { readonly connection: TunnelConnection; readonly failure?: undefined }
  | { readonly connection?: TunnelConnection; readonly failure: MeshDialFailure };

/** What a connection is needed for, and where the other agent listens. */
type Wanted = Pick<MeshRequest, 'caller' | 'target' | 'patienceMs' | 'isAnsweredSlowly'> & {
  readonly at: SocketAddress;
};

class Dialer implements RunningMeshDialer {
  readonly #options: MeshDialerOptions;
  readonly #limits: MeshDialerLimits;
  readonly #pool: Pool<TunnelConnection>;
  readonly #tickets: TicketCache;
  readonly #spares: Spares<TunnelConnection>;
  readonly #connections = new Set<TunnelConnection>();
  readonly #gates: Gates;
  readonly #openings: Openings;
  readonly #context: MeshDialerContext<TunnelClient>;
  readonly #unwatch: readonly (() => void)[];
  #isStopped = false;
  #isDraining = false;

  constructor(options: MeshDialerOptions) {
    const { identities, clock, log, observer } = options;
    const { bundles } = identities;
    this.#options = options;
    this.#limits = { ...DEFAULT_MESH_DIALER_LIMITS, ...options.limits };
    this.#openings = new Openings(this.#limits.maxOpenings, clock);
    this.#gates = new Gates(this.#limits.maxHandshakesPerPeer, clock);
    this.#pool = new Pool(this.#limits, clock);
    this.#tickets = new TicketCache(this.#limits.maxTickets);
    this.#spares = new Spares({
      limits: this.#limits,
      clock,
      countIdle: (key) => (this.#pool.isFullFor(key) ? Infinity : this.#pool.countOf(key)),
      connect: async (route) => await this.#connectSpare(route),
      keep: (key, connection) => this.#keepSpare(key, connection),
      onEvent: (what) => observer?.spare(what),
    });
    const { answerMs } = this.#limits;
    this.#context = {
      protocol: 'tunnel',
      createClient: (socket, events) => new TunnelClient({ socket, clock, answerMs, ...events }),
      clock,
      bundles,
      verifier: new SvidVerifier(),
      pace: new HandshakePace(),
      connectMs: this.#limits.connectMs,
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

  get leavingConnections(): number {
    return [...this.#connections].filter(({ isLeaving }) => isLeaving).length;
  }

  async open(request: MeshRequest): Promise<MeshOutcome> {
    return await this.#openings.admit(request.caller, async () => await this.#open(request));
  }

  reconsiderAll(): void {
    this.#tickets.clear();
    for (const connection of Array.from(this.#connections)) {
      this.#withdraw(connection);
      connection.reconsider();
    }
    this.#spares.refill();
  }

  drain(): void {
    this.#isDraining = true;
    this.#spares.stop();
    for (const connection of Array.from(this.#connections)) this.#retire(connection);
  }

  /** Opens nothing more, lets what is open end within `drainMs`, and cuts the rest. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#openings.stop();
    for (const unwatch of this.#unwatch) unwatch();
    this.#spares.stop();
    this.#tickets.clear();
    for (const connection of Array.from(this.#connections)) this.#retire(connection);
    await endWithin(this.#limits.drainMs, {
      clock: this.#options.clock,
      isEnded: () => this.#connections.size === 0,
    });
    for (const connection of Array.from(this.#connections))
      connection.cut({ message: 'The agent of the calling host stops' });
  }

  /**
   * A pooled connection may have died without our knowing, a resumed session may not please the other side any more, and a new connection may be retired before it was used: what ends
   * before it was answered delivered nothing, so it is tried again, at last on a new connection with a full handshake.
   */
  async #open(request: MeshRequest): Promise<MeshOutcome> {
    const frame = buildOpenFrame(request);
    const dial = this.#dialOf({ ...request, at: this.#placeOf(request) });
    const outcome = (await this.#openPooled(dial, frame)) ?? (await this.#openFresh(dial, frame));
    if (outcome.kind === 'accepted') this.#spares.used(routeOf(dial));
    return outcome;
  }

  async #openPooled(dial: MeshDial, frame: OpenFrame): Promise<MeshOutcome | undefined> {
    const connection = this.#takeIdle(dial);
    if (connection === undefined) return undefined;
    const answer = await ask(connection, frame, dial);
    return answer.kind === 'lost' ? undefined : outcomeOf(answer, { connection, use: 'pooled' });
  }

  async #openFresh(dial: MeshDial, frame: OpenFrame): Promise<MeshOutcome> {
    const session = this.#tickets.find(dial.key, dial.caller);
    const first = await this.#tryFresh({ ...dial, session }, frame);
    if (!first.isWorthAnother) return first.outcome;
    this.#tickets.forget(dial.key);
    const second = await this.#tryFresh(dial, frame);
    return second.outcome;
  }

  async #tryFresh(
    dial: MeshDial,
    frame: OpenFrame,
  ): Promise<{ readonly outcome: MeshOutcome; readonly isWorthAnother: boolean }> {
    const { connection, failure } = await this.#connect(dial);
    if (failure !== undefined) {
      this.#options.log.debug('mesh_dial_failed', { target: dial.target, message: failure.message });
      const isWorthAnother = dial.session !== undefined && connection?.isResumed === true;
      return { outcome: failure, isWorthAnother };
    }
    const answer = await ask(connection, frame, dial);
    const use = connection.isResumed ? 'resumed' : 'new';
    const outcome = outcomeOf(answer, { connection, use });
    const isWorthAnother = connection.isResumed ? outcome.kind === 'failed' : isUnsaid(answer);
    return { outcome, isWorthAnother };
  }

  /** Only so many at once to one host. What the other host does with an opening is no part of it: an application that is slow holds nobody else up. */
  async #connect(dial: MeshDial): Promise<Connected> {
    const { address } = dial;
    const gate = this.#gates.of(address);
    if (!(await gate.enter(dial.caller.spiffeId, Math.min(this.#limits.connectMs, dial.patienceMs))))
      return { failure: failed('overloaded', `Too many connections to ${address} are being set up`) };
    return await this.#setUp(dial, gate);
  }

  /** Within the gate, which it leaves. */
  async #setUp(dial: MeshDial, gate: Gate): Promise<Connected> {
    const connection = new MeshConnection(this.#context, dial);
    this.#connections.add(connection);
    const failure = await connection.connect();
    this.#gates.leave(dial.address, gate);
    return failure === undefined ? { connection } : { connection, failure };
  }

  /** With the certificate of now, if the caller still has one. What others wait for is not held up: where handshakes crowd there is none. */
  async #connectSpare({ caller, target, at }: SpareRoute): Promise<TunnelConnection | undefined> {
    const holder = this.#currentOf(caller);
    if (holder === undefined || !isValidAt(holder, this.#options.clock.nowMs())) return undefined;
    const gate = this.#gates.of(at.address);
    if (!gate.tryEnter()) return undefined;
    const dial = this.#dialOf({ caller: holder, target, at });
    const session = this.#tickets.find(dial.key, holder);
    const { connection, failure } = await this.#setUp({ ...dial, session }, gate);
    if (failure === undefined && connection.isUsable) return connection;
    if (connection?.isResumed === true) this.#tickets.forget(dial.key);
    return undefined;
  }

  /** What has changed since its handshake began counts: the agent may go, the certificate may be replaced, others may fill the pool. */
  #keepSpare(key: string, connection: TunnelConnection): void {
    const { caller } = connection.dial;
    const isWanted = !this.#isStopped && !this.#isDraining && !this.#pool.isFullFor(key);
    if (isWanted && this.#currentOf(caller)?.chainPem === caller.chainPem)
      this.#pool.putSpare(key, connection);
    else this.#retire(connection);
  }

  /** The certificate itself as long as it is in use, else the one that has replaced it. */
  #currentOf(caller: SpareRoute['caller']): HeldSvid | undefined {
    const { current } = this.#options.identities.identities;
    for (const { svid } of current.values()) if (svid.chainPem === caller.chainPem) return svid;
    return findServed(current, caller.spiffeId)?.svid;
  }

  /** A certificate of before its renewal is used for nothing new. */
  #takeIdle(dial: MeshDial): TunnelConnection | undefined {
    for (;;) {
      const connection = this.#pool.take(dial.key);
      if (connection === undefined) return undefined;
      this.#spares.taken(connection, isOfCertificate(connection, dial) ? 'taken' : 'unused');
      if (isOfCertificate(connection, dial)) return connection;
      connection.retire();
    }
  }

  #idle(connection: TunnelConnection): void {
    if (this.#isStopped || this.#isDraining || connection.ageMs > this.#limits.maxAgeMs) connection.retire();
    else this.#pool.put(connection.dial.key, connection);
  }

  #gone(connection: TunnelConnection): void {
    this.#connections.delete(connection);
    this.#pool.remove(connection);
    this.#spares.gone(connection);
  }

  #retire(connection: TunnelConnection): void {
    this.#withdraw(connection);
    connection.retire();
  }

  /** Nothing new is opened on it. */
  #withdraw(connection: TunnelConnection): void {
    this.#pool.remove(connection);
    this.#spares.taken(connection, 'unused');
  }

  /** A workload whose certificate was replaced or withdrawn opens nothing more with the old one. */
  #identitiesChanged(current: ReadonlyMap<string, WorkloadIdentity>): void {
    for (const connection of Array.from(this.#connections))
      if (!isInUse(current, connection.dial.caller)) this.#retire(connection);
    this.#spares.refill();
  }

  #dialOf({
    caller,
    target,
    at: { address, port },
    patienceMs = Infinity,
    isAnsweredSlowly = false,
  }: Wanted): MeshDial {
    const key = `${caller.spiffeId} ${target} ${address} ${port}`;
    const { mark } = this.#options;
    return { key, caller, target, address, port, mark, session: undefined, patienceMs, isAnsweredSlowly };
  }

  #placeOf({ at, destination }: MeshRequest): SocketAddress {
    return at ?? { address: destination.address, port: this.#options.meshPort ?? MESH_PORT };
  }
}

async function ask(
  connection: TunnelConnection,
  frame: OpenFrame,
  { patienceMs, isAnsweredSlowly }: MeshDial,
): Promise<TunnelAnswer> {
  const { client } = connection;
  if (client === undefined) return { kind: 'lost', failure: { message: 'The connection is not usable' } };
  return await client.open(frame, { patienceMs, isWhileSilent: isAnsweredSlowly });
}

/** Whether the other side ended the connection without a word on the opening: the two crossed. */
function isUnsaid(answer: TunnelAnswer): boolean {
  return answer.kind === 'lost' && answer.failure.reason === undefined;
}

function isOfCertificate(connection: TunnelConnection, dial: MeshDial): boolean {
  return connection.dial.caller.chainPem === dial.caller.chainPem;
}

function routeOf({ key, caller, target, address, port }: MeshDial): SpareRoute {
  const { spiffeId, chainPem } = caller;
  return { key, caller: { spiffeId, chainPem }, target, at: { address, port } };
}
