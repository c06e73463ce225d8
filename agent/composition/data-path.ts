import { randomUUID } from 'node:crypto';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { AccessRecorder } from '../audit/access-recorder.ts';
import type { ChosenCapture } from '../capture/open-capture.ts';
import type { AgentConfig } from '../config/config.ts';
import type { Directory } from '../directory/directory.ts';
import { DnsDomainCheck } from '../egress/dns-domain-check.ts';
import { HandshakeCertificateCheck } from '../egress/handshake-certificate-check.ts';
import { buildGatewayNetworks } from '../egress/gateway-networks.ts';
import type { SocketSource } from '../handover/listening-sockets.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { InspectionMaterial } from '../inspection/inspection.ts';
import type { InspectionAuthority } from '../inspection/inspection-authority.ts';
import { withAuditMode, type EnforcementModes } from '../policy/audit-mode.ts';
import { NamedNetworks } from '../networks/named-networks.ts';
import { createAuthorizer } from '../policy/authorize.ts';
import type { Authorizer } from '../policy/authorizer.ts';
import type { LoadedPolicy } from '../policy/loaded-policy.ts';
import { findSteeredWay } from '../proxy/captured/captured-way.ts';
import type { MeshObserver } from '../proxy/mesh/mesh.ts';
import { Inspector } from '../proxy/outside/inspector.ts';
import { startProxy, type HostProxy } from '../proxy/proxy.ts';
import type { ProxyObserver } from '../proxy/records/proxy-observer.ts';
import type { RecentDenials } from '../proxy/records/recent-denials.ts';
import type { MembersObserver } from '../services/services.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import { SubordinateUsers } from '../subordinate-users/subordinate-users.ts';
import type { Traces } from '../traces/traces.ts';
import type { Users } from '../users/users.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';

/** What it takes to let something out of the mesh on terms. */
export interface LeavingSettings {
  /** Certificates (PEM) of the authorities that policies may name, as of `readAuthorities`. */
  readonly authorities: Readonly<Record<string, string>>;
  /** What TLS is inspected with; undefined: it is not. */
  readonly inspection: InspectionMaterial | undefined;
  /** Whether it takes out of the mesh what the policy sends through a gateway that is registered here. */
  readonly isGateway: boolean;
}

/** The settings that the data path reads. */
export type DataPathConfig = Pick<
  AgentConfig,
  'servers' | 'ports' | 'forwards' | 'mesh' | 'limits' | 'egress' | 'networks'
> & {
  readonly capture: Pick<AgentConfig['capture'], 'mark' | 'transparentId'>;
  readonly audit: Pick<AgentConfig['audit'], 'queries'>;
  readonly leaving: LeavingSettings;
};

/** What the data path of a host stands on: everything that it knows, and where it writes down what it decides. */
export interface DataPathParts {
  readonly config: DataPathConfig;
  /** Where its listening sockets come from. */
  readonly sockets: SocketSource;
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly enforcement: Watched<EnforcementModes>;
  readonly policy: Watched<LoadedPolicy | undefined>;
  readonly processes: ProcessIdentifier;
  readonly directory: Directory;
  readonly quarantine: Quarantine;
  /** Who stands behind requests. */
  readonly users: Users;
  /** Undefined: nothing is traced. */
  readonly traces: Traces | undefined;
  readonly recorder: AccessRecorder;
  readonly denials: Pick<RecentDenials, 'note'>;
  readonly observer: ProxyObserver & MeshObserver & MembersObserver;
  readonly chosen: ChosenCapture;
  /** Of `LeavingSettings.inspection`. */
  readonly inspectionAuthority: InspectionAuthority | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Of all spare connections to other agents, and which part of the connections that may be open they are at most. */
const MAX_SPARES = 256;
const SPARES_PART = 8;

/** Puts the data path together and starts it. Throws as `startProxy`. */
export function startDataPath(parts: DataPathParts): HostProxy {
  const { config, chosen, clock, log } = parts;
  const { ports, forwards, mesh, capture, limits, audit, leaving } = config;
  return startProxy({
    ports,
    sockets: parts.sockets,
    forwards,
    dialerLimits: {
      ...(mesh.reusesConnections ? {} : { maxIdle: 0 }),
      maxSparesPerKey: mesh.spares,
      maxSpares: Math.min(MAX_SPARES, Math.ceil(limits.connections / SPARES_PART)),
      ...(mesh.resumesSessions ? {} : { maxTickets: 0 }),
    },
    listenerLimits: {
      // Those that carry nothing at the moment are among them.
      maxConnections: 2 * limits.connections,
      maxConnectionsPerPeer: limits.connectionsPerHost,
    },
    acceptsHbone: mesh.hbone.isAccepted,
    ...(chosen.capture.backend === 'nftables'
      ? {}
      : { findOutboundWay: (socket) => findSteeredWay(socket, chosen.findRecord) }),
    mark: capture.mark,
    transparentZone: capture.transparentId,
    maxConnections: limits.connections,
    maxConnectionsPerHost: limits.connectionsPerHost,
    userParties: new SubordinateUsers({ clock, log }),
    identities: parts.identities,
    directory: parts.directory,
    processes: parts.processes,
    quarantine: parts.quarantine,
    authorizer: openAuthorizer(parts),
    domains: new DnsDomainCheck({ resolvers: config.egress.resolvers, clock }),
    certificates: new HandshakeCertificateCheck({
      authorities: leaving.authorities,
      mark: capture.mark,
      clock,
    }),
    inspector: openInspector(parts),
    gatewayNetworks: leaving.isGateway ? buildGatewayNetworks(config) : undefined,
    recorder: parts.recorder,
    queries: audit.queries,
    traces: parts.traces,
    denials: parts.denials,
    observer: parts.observer,
    clock,
    random: Math.random,
    newId: () => randomUUID(),
    log,
  });
}

/** What decides by the policy in force, and by what operators have put in audit mode. */
export function openAuthorizer({
  config: { networks },
  policy,
  enforcement,
  users,
  clock,
  log,
}: Pick<DataPathParts, 'policy' | 'enforcement' | 'users' | 'clock' | 'log'> & {
  readonly config: Pick<DataPathConfig, 'networks'>;
}): Authorizer {
  const byPolicy = createAuthorizer({ policy, clock, log, users, networks: new NamedNetworks(networks) });
  return withAuditMode(byPolicy, enforcement);
}

function openInspector({
  config,
  inspectionAuthority: authority,
  clock,
}: DataPathParts): Inspector | undefined {
  const { inspection, authorities } = config.leaving;
  if (inspection === undefined || authority === undefined) return undefined;
  const { serverAuthoritiesPem } = inspection;
  return new Inspector({ authority, serverAuthoritiesPem, authorities, mark: config.capture.mark, clock });
}
