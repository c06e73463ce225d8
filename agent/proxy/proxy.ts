import type { Clock } from '../../shared/runtime/clock.ts';
import { watchClockJumps } from '../../shared/runtime/clock-jumps.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { AccessRecorder } from '../audit/access-recorder.ts';
import type { CapturePorts } from '../capture/capture.ts';
import type { Directory } from '../directory/directory.ts';
import type { CertificateCheck } from '../egress/certificate-check.ts';
import type { DomainCheck } from '../egress/domain-check.ts';
import { GatewayReach, type GatewayNetworks } from './outside/gateway-reach.ts';
import type { SocketSource } from '../handover/listening-sockets.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { Authorizer } from '../policy/authorizer.ts';
import { Members, type MembersObserver, type ServiceStatus } from '../services/services.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import type { Traces } from '../traces/traces.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';
import { arrivalOfOpening } from './inbound/arrival.ts';
import type { CaptureHandler } from './captured/steer.ts';
import { findRedirectedWay, type FindCapturedWay } from './captured/captured-way.ts';
import { CaptureListeners } from './captured/capture-listeners.ts';
import { OpenConnections } from './connections/connections.ts';
import { FairTurns } from './connections/fair-turns.ts';
import type { Forward } from './captured/forward.ts';
import { Gateway } from './outside/gateway.ts';
import { GatewayRoute } from './outside/gateway-route.ts';
import { Inbound } from './inbound/inbound.ts';
import { Judge } from './judge/judge.ts';
import { JudgeAnew } from './judge/judge-anew.ts';
import { judgeByTime } from './judge/judge-by-time.ts';
import type { MeshDialerLimits } from './mesh/dialer-options.ts';
import { MeshDialers } from './mesh/dialers.ts';
import { startMeshListener, type MeshListener } from './mesh/listener.ts';
import type { MeshListenerLimits } from './mesh/listener-limits.ts';
import type { MeshObserver } from './mesh/mesh.ts';
import { Outbound } from './outbound/outbound.ts';
import type { Inspector } from './outside/inspector.ts';
import { Outside } from './outside/outside.ts';
import { OwnIdentity } from './outside/own-identity.ts';
import { arrivalOfPlaintext } from './inbound/plaintext-inbound.ts';
import type { UserParties } from '../subordinate-users/subordinate-users.ts';
import type { ProxyObserver } from './records/proxy-observer.ts';
import type { RecentDenials } from './records/recent-denials.ts';
import type { RecordedQueries } from './records/recorded-path.ts';
import type { TcpListener } from './streams/tcp-stream.ts';

export interface ProxyOptions {
  readonly ports: CapturePorts;
  /** Where the sockets that it listens on come from. */
  readonly sockets?: SocketSource;
  readonly forwards: readonly Forward[];
  readonly dialerLimits: Partial<MeshDialerLimits>;
  readonly listenerLimits: Partial<MeshListenerLimits>;
  /** Whether the mesh port answers HBONE as well. */
  readonly acceptsHbone: boolean;
  /** Tells of the connections that this host's programs make where they were going; unless given, nftables redirected them. */
  readonly findOutboundWay?: FindCapturedWay;
  /** Of every connection that the proxy makes. */
  readonly mark: number;
  /** As `TransparentTarget.zone`. */
  readonly transparentZone: number;
  /** Connections that are carried at once. */
  readonly maxConnections: number;
  /** Connections of one other host that are carried at once. */
  readonly maxConnectionsPerHost: number;
  /** Which users of this host have one share. */
  readonly userParties: UserParties;
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly directory: Directory;
  readonly processes: ProcessIdentifier;
  readonly authorizer: Authorizer;
  /** Where names outside of the mesh lead. */
  readonly domains: DomainCheck;
  /** Which certificates servers outside of the mesh prove. */
  readonly certificates: CertificateCheck;
  /** Ends the TLS of what the policy wants inspected; undefined: this host cannot. */
  readonly inspector: Inspector | undefined;
  /** Where this host takes nothing as a gateway, and where it may; undefined: it is none. */
  readonly gatewayNetworks: GatewayNetworks | undefined;
  readonly quarantine: Quarantine;
  readonly recorder: AccessRecorder;
  /** What is written down of the query of a request. */
  readonly queries: RecordedQueries;
  /** Of requests and connections; none unless given. */
  readonly traces?: Traces | undefined;
  readonly denials: Pick<RecentDenials, 'note'>;
  readonly observer: ProxyObserver & MeshObserver & MembersObserver;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  /** A new UUID. */
  readonly newId: () => string;
  readonly log: Log;
}

export interface Proxy extends Running {
  /** Connections that are carried now; in a drain also those to other agents that carry nothing any more, and whose end has yet to be taken. */
  readonly connections: number;
  /** Connections that may be carried at once. */
  readonly maxConnections: number;
  /** Services in several places, and how this host sees their members. */
  readonly services: readonly ServiceStatus[];
}

/** A data path of this very process, which can be replaced by that of another, and takes what other namespaces of the host send as well. */
export interface HostProxy extends Proxy {
  /** Takes what the programs of another namespace connect to, which its rules redirect; nothing once it drains. Throws `unavailable`, reason `listen_failed` or `network_namespace`. */
  listenIn(namespace: NetworkNamespace): Pick<TcpListener, 'stop' | 'isBroken'>;
  /**
   * Takes nothing more; what is open goes on and is judged as before. Clients are told to come again on another connection, where their protocol has words for it: HTTP/1.1 with
   * the next answer, HTTP/2 at once. Resolves once nothing is open, or after `withinMs`; `stop` cuts the rest.
   */
  drain(withinMs: number): Promise<void>;
}

/** How often a drain looks whether it is over, in milliseconds. */
const LOOK_EVERY_MS = 50;

/**
 * The data path of a host: captured connections of its programs, other agents, and captured plaintext from outside of the mesh. What changes (quarantine,
 * policy, registration, identities, trust) makes every open connection be judged again. Throws `unavailable`, reason `listen_failed`.
 */
export function startProxy(options: ProxyOptions): HostProxy {
  return new RunningProxy(options);
}

class RunningProxy implements HostProxy {
  readonly maxConnections: number;
  readonly #options: ProxyOptions;
  readonly #judge: Judge;
  readonly #connections: OpenConnections;
  readonly #turns: FairTurns;
  readonly #judgeAnew: JudgeAnew;
  readonly #dialers: MeshDialers;
  readonly #members: Members;
  readonly #own: OwnIdentity;
  readonly #inbound: Inbound;
  readonly #outbound: Outbound;
  readonly #captured: CaptureListeners;
  readonly #mesh: MeshListener;
  readonly #unwatch: readonly (() => void)[];
  #isDraining = false;

  constructor(options: ProxyOptions) {
    const { maxConnections, maxConnectionsPerHost, clock } = options;
    this.#options = options;
    this.maxConnections = maxConnections;
    this.#judge = new Judge(options);
    this.#connections = new OpenConnections({ max: maxConnections, maxPerHost: maxConnectionsPerHost });
    this.#turns = new FairTurns(clock);
    this.#judgeAnew = new JudgeAnew({ ...options, connections: this.#connections });
    // Before the mesh's own parts, which cut what is not trusted any more without writing it down.
    const unwatch = this.#watchForChange();
    this.#dialers = new MeshDialers(options);
    this.#members = new Members(options);
    const onLost = (): void => this.#judgeAnew.begin('circumstances');
    this.#own = new OwnIdentity({ ...options, pid: process.pid, onLost });
    const { outside, gateway } = this.#waysOut();
    const shared = {
      ...options,
      judge: this.#judge,
      connections: this.#connections,
      turns: this.#turns,
    };
    this.#inbound = new Inbound({ ...shared, ...gateway });
    this.#outbound = new Outbound({
      ...shared,
      identities: options.identities.identities,
      members: this.#members,
      dialer: this.#dialers,
      outside,
      receiveLocal: async (arrival) => await this.#inbound.handle(arrival),
    });
    this.#captured = this.#listenForCaptured();
    this.#mesh = this.#listenForPeers();
    this.#unwatch = [...unwatch, watchClockJumps(clock, () => this.#clockJumped())];
  }

  get connections(): number {
    const leaving = this.#isDraining ? this.#mesh.leavingConnections + this.#dialers.leavingConnections : 0;
    return this.#connections.size + leaving;
  }

  get services(): readonly ServiceStatus[] {
    return this.#members.status();
  }

  listenIn(namespace: NetworkNamespace): Pick<TcpListener, 'stop' | 'isBroken'> {
    const { ports } = this.#options;
    return this.#captured.open(ports.outbound, {
      find: findRedirectedWay,
      handle: this.#handleOutbound,
      namespace,
    });
  }

  async drain(withinMs: number): Promise<void> {
    const { clock } = this.#options;
    this.#isDraining = true;
    this.#captured.stop();
    this.#mesh.drain();
    this.#dialers.drain();
    this.#connections.retireAll();
    const endMs = clock.monotonicMs() + withinMs;
    const countOpen = (): number =>
      this.#connections.size + this.#mesh.connections + this.#dialers.connections;
    while (countOpen() > 0 && clock.monotonicMs() < endMs)
      await new Promise<void>((resolve) => void clock.schedule(LOOK_EVERY_MS, resolve));
  }

  async stop(): Promise<void> {
    for (const stop of this.#unwatch) stop();
    this.#members.stop();
    this.#own.stop();
    this.#captured.stop();
    await this.#mesh.stop();
    this.#connections.cutAll({ message: 'The agent is stopping' });
    await this.#dialers.stop();
  }

  readonly #handleOutbound: CaptureHandler = async (stream, way) => await this.#outbound.handle(stream, way);

  /** Judges again what is open whenever what it stands on has changed. */
  #watchForChange(): readonly (() => void)[] {
    const { quarantine, authorizer, directory, identities, clock, log } = this.#options;
    const reconsider = (): void => this.#judgeAnew.begin('circumstances');
    return [
      ...[quarantine, directory, identities.identities, identities.bundles].map((watched) =>
        watched.watch(reconsider),
      ),
      authorizer.watch(() => this.#judgeAnew.begin('policy')),
      () => this.#judgeAnew.stop(),
      judgeByTime({ connections: this.#connections, authorizer, clock, log }),
    ];
  }

  #clockJumped(): void {
    // Policies read the clock, and users' tokens end by it.
    this.#judgeAnew.begin('policy');
    this.#mesh.reconsiderAll();
    this.#dialers.reconsiderAll();
  }

  /** Out of the mesh: for programs of this host, and as a gateway for those of others where it is one. */
  #waysOut(): { readonly outside: Outside; readonly gateway: { readonly gateway?: Gateway } } {
    const { directory, gatewayNetworks, ports } = this.#options;
    const reach =
      gatewayNetworks &&
      new GatewayReach({ directory, own: this.#own, meshPort: ports.mesh, ...gatewayNetworks });
    const connections = this.#connections;
    const shared = {
      ...this.#options,
      judge: this.#judge,
      connections,
      turns: this.#turns,
      meshPort: ports.mesh,
    };
    const gateways = new GatewayRoute({
      ...shared,
      dialer: this.#dialers,
      isGatewayHost: reach !== undefined,
    });
    const outside = new Outside({ ...shared, gateways, reach });
    if (reach === undefined) return { outside, gateway: {} };
    return {
      outside,
      gateway: { gateway: new Gateway({ directory, reach, connections, outside, meshPort: ports.mesh }) },
    };
  }

  #listenForCaptured(): CaptureListeners {
    const { ports, forwards, findOutboundWay } = this.#options;
    const captured = new CaptureListeners(this.#options);
    captured.open(ports.outbound, {
      find: findOutboundWay ?? findRedirectedWay,
      handle: this.#handleOutbound,
    });
    captured.open(ports.inbound, {
      find: findRedirectedWay,
      handle: async (stream, { client, destination }) => {
        const connectionId = this.#judge.newId();
        await this.#inbound.handle(arrivalOfPlaintext(stream, { source: client, destination, connectionId }));
      },
    });
    for (const forward of forwards) captured.openForward(forward, this.#handleOutbound);
    return captured;
  }

  #listenForPeers(): MeshListener {
    return startMeshListener({
      ...this.#options,
      port: this.#options.ports.mesh,
      limits: this.#options.listenerLimits,
      onOpening: (opening) => void this.#inbound.handle(arrivalOfOpening(opening)),
    });
  }
}
