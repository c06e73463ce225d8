import { describeError } from '../../../shared/errors/errors.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { CrowdReport } from '../../../shared/runtime/crowd-report.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import { SvidVerifier } from '../../../shared/spiffe/svid-verifier.ts';
import type { IdentitySource, WorkloadIdentity } from '../../identity/identity.ts';
import type { SocketSource } from '../../handover/listening-sockets.ts';
import { findOriginalDestination } from '../../native/original-destination.ts';
import { addressesOf, listenNative, type NativeListener, type NativeSocket } from '../streams/bun-socket.ts';
import { HandshakePace } from './handshake-pace.ts';
import type { MeshObserver, MeshOpening, TurnedAway } from './mesh.ts';
import type { MeshProtocol } from './protocol.ts';
import { endWithin } from './end-within.ts';
import {
  InboundMeshConnection,
  type AcceptedHello,
  type MeshListenerContext,
} from './listener-connection.ts';
import { HelloWatch, type HelloOutcome } from './listener-hello.ts';
import {
  ConnectionPlaces,
  DEFAULT_MESH_LISTENER_LIMITS,
  type MeshListenerLimits,
  type Place,
} from './listener-limits.ts';
import { MeshLosses } from './losses.ts';
import { ServerContexts } from './server-contexts.ts';
import { MESH_PORT, serverTlsOptions } from './tls.ts';
import { meshSocketHandlers } from './tls-socket.ts';
import { readMeshWish, ServedIdentities } from './served-identities.ts';

export interface MeshListenerOptions {
  /** Where to listen; by default all of the host, `::` for both families. */
  readonly addresses?: readonly string[];
  /** `MESH_PORT` by default; 0 takes a free one. */
  readonly port?: number;
  /** Where its sockets come from. */
  readonly sockets?: SocketSource;
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<MeshListenerLimits>;
  /** Whether HBONE is answered beside the tunnel; true by default. */
  readonly acceptsHbone?: boolean;
  readonly observer?: MeshObserver;
  /** A new UUID, for connections whose callers name none. */
  readonly newId: () => string;
  /** Somebody, verified, asks for one of our workloads. It must be answered within `limits.openingMs`. */
  readonly onOpening: (opening: MeshOpening) => void;
}

export interface MeshListener extends Running {
  readonly port: number;
  /** How many connections there are, those in their handshake included. */
  readonly connections: number;
  /** How many of them carry nothing any more, and only wait for the peer to take their end. */
  readonly leavingConnections: number;
  /** Takes no more connections; those that there are open nothing more, and end with what they carry. */
  drain(): void;
  /** Cuts what has an end that is not good now, and lets the rest open nothing more: time or trust have changed. */
  reconsiderAll(): void;
}

/** TLS alert 112, unrecognized_name, fatal (RFC 6066 3). */
const UNRECOGNIZED_NAME = Uint8Array.of(21, 3, 1, 0, 2, 2, 112);

/**
 * Listens for other agents. The workload is chosen by the ClientHello, which is peeked
 * at before TLS begins; both ends are verified by us under the bundles of now, on resumed sessions too. Throws `unavailable`,
 * reason `listen_failed`.
 */
export function startMeshListener(options: MeshListenerOptions): MeshListener {
  return new Listener(options);
}

/** A connection whose ClientHello has not come: Bun's data of the raw socket. */
interface RawState {
  cancel: () => void;
  place: Place | undefined;
  /** Once TLS has begun. */
  connection?: InboundMeshConnection;
}

class Listener implements MeshListener {
  readonly #context: MeshListenerContext;
  readonly #places: ConnectionPlaces;
  readonly #crowd: CrowdReport<TurnedAway>;
  readonly #hellos: HelloWatch;
  readonly #pace = new HandshakePace();
  readonly #contexts = new ServerContexts();
  readonly #connections = new Set<InboundMeshConnection>();
  readonly #listeners: NativeListener[] = [];
  readonly #unwatch: readonly (() => void)[];
  readonly #acceptsHbone: boolean;
  #served: ServedIdentities;
  #isDraining = false;

  constructor(options: MeshListenerOptions) {
    const limits = { ...DEFAULT_MESH_LISTENER_LIMITS, ...options.limits };
    const { identities, clock, log, onOpening, observer, newId } = options;
    this.#context = {
      identities,
      verifier: new SvidVerifier(),
      clock,
      log,
      limits,
      onOpening,
      observer,
      newId,
      losses: new MeshLosses({ side: 'called', clock, log, observer }),
      onGone: (connection) => void this.#connections.delete(connection),
    };
    this.#places = new ConnectionPlaces(limits);
    this.#crowd = new CrowdReport({ event: 'mesh_connections_turned_away', clock, log });
    this.#hellos = new HelloWatch(clock, limits.helloMs);
    this.#acceptsHbone = options.acceptsHbone ?? true;
    this.#served = new ServedIdentities(identities.identities.current);
    this.#listen(options);
    this.#unwatch = [
      identities.bundles.watch(() => this.reconsiderAll()),
      identities.identities.watch((current) => this.#identitiesChanged(current)),
    ];
  }

  get port(): number {
    return this.#listeners[0]?.port ?? 0;
  }

  get connections(): number {
    return this.#places.connections;
  }

  get leavingConnections(): number {
    return [...this.#connections].filter(({ isLeaving }) => isLeaving).length;
  }

  reconsiderAll(): void {
    this.#forEach((connection) => connection.reconsider());
  }

  drain(): void {
    for (const listener of this.#listeners) listener.stop();
    this.#isDraining = true;
    this.#forEach((connection) => connection.drain());
  }

  /** Takes nothing more, lets what is open end within `drainMs`, and cuts the rest. */
  async stop(): Promise<void> {
    for (const unwatch of this.#unwatch) unwatch();
    for (const listener of this.#listeners.splice(0)) listener.stop();
    this.#forEach((connection) => connection.retire());
    const { clock, limits } = this.#context;
    await endWithin(limits.drainMs, { clock, isEnded: () => this.#connections.size === 0 });
    this.#forEach((connection) => connection.cut({ message: 'The agent of the called host stops' }));
  }

  #listen({ addresses = ['::'], port = MESH_PORT, sockets }: MeshListenerOptions): void {
    const socket: Bun.SocketHandler<RawState> = {
      open: (raw) => this.#accepted(raw as NativeSocket<RawState>),
      close: (raw) => closeRaw(raw.data),
      // Bun wants one of `data` and `drain`. After the upgrade the raw socket would go on telling of its ciphertext: without `data` no array is made of it, for each piece.
      drain: () => undefined,
      end: () => undefined,
      error: () => undefined,
    };
    try {
      for (const address of addresses)
        this.#listeners.push(
          listenNative<RawState>(
            { address, port: this.port === 0 ? port : this.port, ...(sockets && { sockets }) },
            socket,
          ),
        );
    } catch (error) {
      for (const listener of this.#listeners.splice(0)) listener.stop();
      throw error;
    }
  }

  #accepted(raw: NativeSocket<RawState>): void {
    raw.pause();
    const { remote } = addressesOf(raw);
    const place = this.#places.tryEnter({ address: remote.address, giveWay: () => this.#giveWay(raw) });
    raw.data = { cancel: () => undefined, place };
    if (place === undefined) {
      this.#turnedAway('full', remote.address);
      raw.terminate();
      return;
    }
    raw.data.cancel = this.#hellos.wait(raw.fd, (outcome) => this.#hello(raw, outcome));
  }

  #hello(raw: NativeSocket<RawState>, outcome: HelloOutcome): void {
    const { place } = raw.data;
    if (place === undefined) return;
    if (outcome.kind === 'refused') return this.#refuse(raw, outcome.why);
    const wish = readMeshWish(outcome);
    if (wish.protocol === 'hbone' && !this.#acceptsHbone) return this.#refuseName(raw, 'HBONE is turned off');
    if (this.#served.find(wish) === undefined) return this.#refuseName(raw, this.#served.whyNone(wish));
    raw.data.cancel = this.#pace.run(() => {
      const identity = this.#served.find(wish);
      if (identity === undefined) this.#refuseName(raw, this.#served.whyNone(wish));
      else this.#upgrade(raw, place, { svid: identity.svid, protocol: wish.protocol });
    });
  }

  #upgrade(
    raw: NativeSocket<RawState>,
    place: Place,
    { svid, protocol }: Pick<AcceptedHello, 'svid' | 'protocol'>,
  ): void {
    const connection = new InboundMeshConnection(this.#context, {
      svid,
      protocol,
      ...endsOf(raw, protocol),
      place,
    });
    // From here on the place is the connection's to leave.
    raw.data.place = undefined;
    raw.data.connection = connection;
    this.#connections.add(connection);
    if (this.#isDraining) connection.drain();
    try {
      const [, tls] = raw.upgradeTLS({
        tls: serverTlsOptions(this.#contexts.of(svid), protocol),
        isServer: true,
        data: connection,
        socket: meshSocketHandlers,
      } as Bun.TLSUpgradeOptions<InboundMeshConnection>);
      connection.opened(tls as NativeSocket<InboundMeshConnection>);
      raw.resume();
    } catch (error) {
      connection.closed(describeError(error));
      raw.terminate();
    }
  }

  #giveWay(raw: NativeSocket<RawState>): void {
    const { connection, cancel } = raw.data;
    this.#turnedAway(connection?.isVerified === true ? 'idle' : 'unproven', addressesOf(raw).remote.address);
    if (connection !== undefined) return connection.giveWay();
    cancel();
    raw.terminate();
  }

  #refuseName(raw: NativeSocket<RawState>, why: string): void {
    raw.write(UNRECOGNIZED_NAME);
    this.#refuse(raw, why);
  }

  #turnedAway(why: TurnedAway, address: string): void {
    this.#context.observer?.turnedAway(why);
    this.#crowd.note(why, address);
  }

  #refuse(raw: NativeSocket<RawState>, why: string): void {
    const { observer, log } = this.#context;
    observer?.handshaken({ side: 'called', outcome: 'failed' });
    log.debug('mesh_hello_refused', { peer: raw.remoteAddress, why });
    raw.end();
  }

  #identitiesChanged(current: ReadonlyMap<string, WorkloadIdentity>): void {
    this.#served = new ServedIdentities(current);
    this.#contexts.identitiesChanged(current);
    this.#forEach((connection) => connection.reconsiderIdentity());
  }

  #forEach(act: (connection: InboundMeshConnection) => void): void {
    for (const connection of Array.from(this.#connections)) act(connection);
  }
}

/** HBONE says whom it asks for by the address that it called: for a namespace of this host, that was not ours. */
function endsOf(raw: NativeSocket<RawState>, protocol: MeshProtocol): ReturnType<typeof addressesOf> {
  const { remote, local } = addressesOf(raw);
  return { remote, local: (protocol === 'hbone' ? findOriginalDestination(raw.fd) : undefined) ?? local };
}

function closeRaw(state: RawState): void {
  state.cancel();
  state.place?.leave();
}
