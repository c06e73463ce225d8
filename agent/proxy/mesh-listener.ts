import { describeError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { CrowdReport } from '../../shared/runtime/crowd-report.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { spiffeServerName } from '../../shared/spiffe/server-name.ts';
import { SvidVerifier } from '../../shared/spiffe/svid-verifier.ts';
import type { HeldSvid, IdentitySource, WorkloadIdentity } from '../identity/identity.ts';
import { addressesOf, listenNative, type NativeSocket } from './bun-socket.ts';
import { HandshakePace } from './handshake-pace.ts';
import type { MeshObserver, MeshOpening, TurnedAway } from './mesh.ts';
import { findServed, InboundMeshConnection, type MeshListenerContext } from './mesh-listener-connection.ts';
import { HelloWatch, type HelloOutcome } from './mesh-listener-hello.ts';
import {
  ConnectionPlaces,
  DEFAULT_MESH_LISTENER_LIMITS,
  type MeshListenerLimits,
  type Place,
} from './mesh-listener-limits.ts';
import { MeshLosses } from './mesh-losses.ts';
import { MESH_PORT, serverTlsOptions } from './mesh-tls.ts';
import { meshSocketHandlers } from './mesh-tls-socket.ts';

export interface MeshListenerOptions {
  /** Where to listen; by default all of the host, `::` for both families. */
  readonly addresses?: readonly string[];
  /** `MESH_PORT` by default; 0 takes a free one. */
  readonly port?: number;
  readonly identities: IdentitySource;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<MeshListenerLimits>;
  readonly observer?: MeshObserver;
  /** Somebody, verified, asks for one of our workloads. It must be answered within `limits.openingMs`. */
  readonly onOpening: (opening: MeshOpening) => void;
}

export interface MeshListener extends Running {
  readonly port: number;
  /** How many connections there are, those in their handshake included. */
  readonly connections: number;
  /** Cuts what has an end that is not good now, and lets the rest open nothing more: time or trust have changed. */
  reconsiderAll(): void;
}

/** TLS alert 112, unrecognized_name, fatal (RFC 6066 3). */
const UNRECOGNIZED_NAME = Uint8Array.of(21, 3, 1, 0, 2, 2, 112);

/**
 * Listens for other agents (design: decisions 2, 3, 4 and 21). The workload is chosen by the server name of the ClientHello, which is peeked
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
  readonly #connections = new Set<InboundMeshConnection>();
  readonly #listeners: Bun.TCPSocketListener<RawState>[] = [];
  readonly #unwatch: readonly (() => void)[];
  #byServerName: ReadonlyMap<string, WorkloadIdentity>;

  constructor(options: MeshListenerOptions) {
    const limits = { ...DEFAULT_MESH_LISTENER_LIMITS, ...options.limits };
    const { identities, clock, log, onOpening, observer } = options;
    this.#context = {
      identities,
      verifier: new SvidVerifier(),
      clock,
      log,
      limits,
      onOpening,
      observer,
      losses: new MeshLosses({ side: 'called', clock, log, observer }),
      onGone: (connection) => void this.#connections.delete(connection),
    };
    this.#places = new ConnectionPlaces(limits);
    this.#crowd = new CrowdReport({ event: 'mesh_connections_turned_away', clock, log });
    this.#hellos = new HelloWatch(clock, limits.helloMs);
    this.#byServerName = indexByServerName(identities.identities.current);
    this.#listen(options.addresses ?? ['::'], options.port ?? MESH_PORT);
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

  reconsiderAll(): void {
    this.#forEach((connection) => connection.reconsider());
  }

  /** Takes nothing more, lets what is open end within `drainMs`, and cuts the rest. */
  async stop(): Promise<void> {
    for (const unwatch of this.#unwatch) unwatch();
    for (const listener of this.#listeners.splice(0)) listener.stop(false);
    this.#forEach((connection) => connection.retire());
    const endMs = this.#context.clock.monotonicMs() + this.#context.limits.drainMs;
    while (this.#connections.size > 0 && this.#context.clock.monotonicMs() < endMs)
      await new Promise<void>((resolve) => void this.#context.clock.schedule(20, resolve));
    this.#forEach((connection) => connection.cut({ message: 'The agent of the called host stops' }));
  }

  #listen(addresses: readonly string[], port: number): void {
    const socket: Bun.SocketHandler<RawState> = {
      open: (raw) => this.#accepted(raw as NativeSocket<RawState>),
      close: (raw) => closeRaw(raw.data),
      // After the upgrade the raw socket still tells of its ciphertext.
      data: () => undefined,
      end: () => undefined,
      error: () => undefined,
    };
    try {
      for (const address of addresses)
        this.#listeners.push(
          listenNative<RawState>({ address, port: this.port === 0 ? port : this.port }, socket),
        );
    } catch (error) {
      for (const listener of this.#listeners.splice(0)) listener.stop(true);
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
    const serverName = outcome.serverName ?? '';
    if (!this.#byServerName.has(serverName)) return this.#refuseName(raw, serverName);
    raw.data.cancel = this.#pace.run(() => {
      const identity = this.#byServerName.get(serverName);
      if (identity === undefined) this.#refuseName(raw, serverName);
      else this.#upgrade(raw, place, identity.svid);
    });
  }

  #upgrade(raw: NativeSocket<RawState>, place: Place, svid: HeldSvid): void {
    raw.setKeepAlive(true, KEEPALIVE_MS);
    raw.setNoDelay(true);
    const connection = new InboundMeshConnection(this.#context, {
      svid,
      address: addressesOf(raw).remote,
      place,
    });
    // From here on the place is the connection's to leave.
    raw.data.place = undefined;
    raw.data.connection = connection;
    this.#connections.add(connection);
    try {
      const [, tls] = raw.upgradeTLS({
        tls: serverTlsOptions(svid),
        isServer: true,
        data: connection,
        socket: meshSocketHandlers,
      } as Bun.TLSUpgradeOptions<InboundMeshConnection>);
      connection.opened(tls);
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

  #refuseName(raw: NativeSocket<RawState>, serverName: string): void {
    raw.write(UNRECOGNIZED_NAME);
    this.#refuse(raw, `no workload here has the name ${serverName || '(none)'}`);
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
    this.#byServerName = indexByServerName(current);
    this.#forEach((connection) => connection.reconsiderIdentity());
  }

  #forEach(act: (connection: InboundMeshConnection) => void): void {
    for (const connection of Array.from(this.#connections)) act(connection);
  }
}

/** A peer that vanished is noticed after this silence and ten probes, a second apart. */
const KEEPALIVE_MS = 30_000;

function closeRaw(state: RawState): void {
  state.cancel();
  state.place?.leave();
}

function indexByServerName(
  identities: ReadonlyMap<string, WorkloadIdentity>,
): ReadonlyMap<string, WorkloadIdentity> {
  const index = new Map<string, WorkloadIdentity>();
  for (const { svid } of identities.values()) {
    const served = findServed(identities, svid.spiffeId);
    if (served !== undefined) index.set(spiffeServerName(svid.spiffeId), served);
  }
  return index;
}
