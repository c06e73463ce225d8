import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { watchClockJumps } from '../../shared/runtime/clock-jumps.ts';
import { CrowdReport } from '../../shared/runtime/crowd-report.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { AccessRecorder } from '../audit/access-recorder.ts';
import type { CapturePorts } from '../capture/capture.ts';
import type { Directory } from '../directory/directory.ts';
import type { DomainCheck } from '../egress/domain-check.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { Authorizer } from '../policy/authorizer.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';
import { arrivalOfOpening } from './arrival.ts';
import { findRedirectedWay, type FindCapturedWay } from './captured-way.ts';
import { OpenConnections } from './connections.ts';
import type { Forward } from './forward.ts';
import { Inbound } from './inbound.ts';
import { Judge } from './judge.ts';
import { createMeshDialer, type MeshDialerLimits } from './mesh-dialer.ts';
import { startMeshListener } from './mesh-listener.ts';
import type { MeshListenerLimits } from './mesh-listener-limits.ts';
import type { MeshObserver } from './mesh.ts';
import { Outbound } from './outbound.ts';
import { arrivalOfPlaintext } from './plaintext-inbound.ts';
import type { ProxyObserver } from './proxy-observer.ts';
import type { RecentDenials } from './recent-denials.ts';
import { steer, type CaptureHandler } from './steer.ts';
import { listenTcp, type AcceptedSocket, type TcpListener, type TcpStream } from './tcp-stream.ts';

export interface ProxyOptions {
  readonly ports: CapturePorts;
  readonly forwards: readonly Forward[];
  readonly dialerLimits: Partial<MeshDialerLimits>;
  readonly listenerLimits: Partial<MeshListenerLimits>;
  /** Tells of the connections that this host's programs make where they were going; unless given, nftables redirected them. */
  readonly findOutboundWay?: FindCapturedWay;
  /** Of every connection that the proxy makes. */
  readonly mark: number;
  /** Connections that are carried at once. */
  readonly maxConnections: number;
  /** Connections of one other host that are carried at once. */
  readonly maxConnectionsPerHost: number;
  readonly identities: IdentitySource;
  readonly directory: Directory;
  readonly processes: ProcessIdentifier;
  readonly authorizer: Authorizer;
  /** Where names outside of the mesh lead. */
  readonly domains: DomainCheck;
  readonly quarantine: Quarantine;
  readonly recorder: AccessRecorder;
  readonly denials: RecentDenials;
  readonly observer: ProxyObserver & MeshObserver;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  /** A new UUID. */
  readonly newId: () => string;
  readonly log: Log;
}

export interface Proxy extends Running {
  /** Connections that are carried now. */
  readonly connections: number;
  /** Connections that may be carried at once. */
  readonly maxConnections: number;
}

/** Both families on one socket. */
const EVERYWHERE = '::';

/**
 * The data path of a host: captured connections of its programs, other agents, and captured plaintext from outside of the mesh. What changes (quarantine,
 * policy, registration, identities, trust) makes every open connection be judged again. Throws `unavailable`, reason `listen_failed`.
 */
export function startProxy(options: ProxyOptions): Proxy {
  const { ports, mark, clock, log, identities, directory, processes, authorizer, quarantine } = options;
  const judge = new Judge(options);
  const connections = new OpenConnections({
    max: options.maxConnections,
    maxPerHost: options.maxConnectionsPerHost,
  });
  // Whoever told of the change has others to tell: a fault of ours must not keep it from them. What could not be judged was cut.
  const reconsider = (): void => {
    try {
      connections.reconsiderAll();
    } catch (error) {
      log.error('connections_not_judged', { error: toPicketError(error) });
    }
  };
  // Before the mesh's own parts, which cut what is not trusted any more without writing it down.
  const unwatch = [quarantine, authorizer, directory, identities.identities, identities.bundles].map(
    (watched) => watched.watch(reconsider),
  );
  const inbound = new Inbound({ judge, directory, processes, connections, mark, clock });
  const dialer = createMeshDialer({ ...options, limits: options.dialerLimits, meshPort: ports.mesh });
  const outbound = new Outbound({
    judge,
    directory,
    processes,
    identities: identities.identities,
    dialer,
    domains: options.domains,
    connections,
    receiveLocal: async (arrival) => await inbound.handle(arrival),
    mark,
    clock,
  });
  const listeners: TcpListener[] = [];
  const refused = new CrowdReport<'refused'>({ event: 'own_listener_refused', clock, log });
  const capture = (port: number, find: FindCapturedWay, handle: CaptureHandler): void => {
    const onStream = (stream: TcpStream, socket: AcceptedSocket): void =>
      steer(stream, socket, { find, handle, ports, refused, clock, log });
    listeners.push(listenTcp({ address: EVERYWHERE, port, onStream }));
  };
  capture(
    ports.outbound,
    options.findOutboundWay ?? findRedirectedWay,
    async (stream, way) => await outbound.handle(stream, way),
  );
  capture(ports.inbound, findRedirectedWay, async (stream, { client, destination }) => {
    const connectionId = judge.newId();
    await inbound.handle(arrivalOfPlaintext(stream, { source: client, destination, connectionId }));
  });
  for (const { listen, to } of options.forwards) {
    const onStream = (stream: TcpStream, { remote, local }: AcceptedSocket): void =>
      void outbound.handle(stream, { client: remote, dialled: local, destination: to });
    listeners.push(listenTcp({ ...listen, onStream }));
  }
  const mesh = startMeshListener({
    ...options,
    port: ports.mesh,
    limits: options.listenerLimits,
    onOpening: (opening) => void inbound.handle(arrivalOfOpening(opening)),
  });
  unwatch.push(
    watchClockJumps(clock, () => {
      reconsider();
      mesh.reconsiderAll();
      dialer.reconsiderAll();
    }),
  );
  return {
    get connections() {
      return connections.size;
    },
    maxConnections: options.maxConnections,
    stop: async () => {
      for (const stop of unwatch) stop();
      for (const listener of listeners) listener.stop();
      await mesh.stop();
      connections.cutAll({ message: 'The agent is stopping' });
      await dialer.stop();
    },
  };
}
