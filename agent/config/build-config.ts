import { join } from 'node:path';
import type { HostAndPort } from '../../shared/config/config-values.ts';
import { formatCidr } from '../capture/cidr.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { TracesConfig } from '../traces/open-telemetry.ts';
import type { IssuerConfig } from '../users/open-users.ts';
import type { AgentConfig, AttestationConfig } from './config.ts';
import type { AgentConfigFile } from './config-schema.ts';
import { buildNamespaces } from './namespaces-schema.ts';

/** Connections that are steered and not accepted yet, or refused, are remembered too. Each place takes some 100 bytes of the kernel. */
const RECORDS_PER_CONNECTION = 4;
const MIN_RECORDS = 16_384;
const MAX_RECORDS = 1_048_576;

/** The settings that a file that its schema let through stands for, with everything that follows from them. */
export function buildConfig(file: AgentConfigFile): AgentConfig {
  const { audit } = file;
  return {
    trustDomain: file.trust_domain,
    servers: file.servers,
    trust: buildTrust(file.trust),
    attestation: buildAttestation(file.attestation),
    addresses: file.addresses,
    dataDirectory: file.data_dir,
    sealKeyFile: file.seal_key_file ?? join(file.data_dir, 'seal.key'),
    sockets: { workloadApi: file.sockets.workload_api, admin: file.sockets.admin },
    ports: file.ports,
    capture: buildCapture(file),
    egress: buildEgress(file.egress),
    forwards: file.forwards.map(({ listen, to }) => ({ listen: addressOf(listen), to: addressOf(to) })),
    proxy: { workers: file.proxy.workers },
    mesh: {
      reusesConnections: file.mesh.reuse_connections,
      resumesSessions: file.mesh.resume_sessions,
      spares: file.mesh.spares,
      hbone: buildHbone(file.mesh.hbone),
    },
    networks: new Map(Object.entries(file.networks)),
    issuers: file.users.issuers.map(buildIssuer),
    traces: buildTraces(file.traces),
    audit: {
      directory: join(file.data_dir, 'audit'),
      maxBytes: audit.max_bytes,
      durability: audit.durability,
      queries: audit.queries,
    },
    upgrade: { drainMs: file.upgrade.drain_seconds * 1000 },
    logLevel: file.log_level,
    metrics: file.metrics_address ?? undefined,
    readiness: file.readiness_address ?? undefined,
    limits: buildLimits(file.limits),
  };
}

function buildCapture(file: AgentConfigFile): AgentConfig['capture'] {
  const { capture, limits } = file;
  return {
    isEnabled: capture.enabled,
    choice: {
      backend: capture.backend,
      bpfFolder: capture.bpf_dir,
      cgroup: capture.cgroup,
      maxRecords: Math.min(MAX_RECORDS, Math.max(MIN_RECORDS, RECORDS_PER_CONNECTION * limits.connections)),
    },
    mark: capture.mark,
    transparentId: capture.transparent_id,
    rulesFile: capture.rules_file ?? join(file.data_dir, 'capture.nft'),
    namespaces: buildNamespaces(capture.namespaces),
    exclude: {
      inboundPorts: capture.exclude.inbound_ports,
      outboundPorts: capture.exclude.outbound_ports,
      outboundAddresses: capture.exclude.outbound_addresses.map(formatCidr),
      users: capture.exclude.users,
    },
    allowUdp: capture.allow_udp.map(({ address, port }) => ({ address: formatCidr(address), port })),
  };
}

function buildEgress(egress: AgentConfigFile['egress']): AgentConfig['egress'] {
  return {
    resolvers: egress.resolvers.map(resolverOf),
    decidesUdp: egress.udp === 'policy',
    authorities: egress.authorities,
    inspection: buildInspection(egress.inspection),
    gatewayRefuses: egress.gateway_refuses,
    gatewayAllows: egress.gateway_allows,
  };
}

function buildHbone({ accept, peers }: AgentConfigFile['mesh']['hbone']): AgentConfig['mesh']['hbone'] {
  return {
    isAccepted: accept,
    peers: peers.map(({ addresses, ports, spiffe_id }) => ({ addresses, ports, spiffeId: spiffe_id })),
  };
}

function buildInspection(
  inspection: AgentConfigFile['egress']['inspection'],
): AgentConfig['egress']['inspection'] {
  if (inspection === undefined) return undefined;
  const { certificate_file, key_file, server_authorities_file } = inspection;
  return {
    certificateFile: certificate_file,
    keyFile: key_file,
    serverAuthoritiesFile: server_authorities_file,
  };
}

function buildTraces(traces: AgentConfigFile['traces']): TracesConfig | undefined {
  if (traces === undefined) return undefined;
  const { endpoint, ca_file, ratio, parent_based } = traces;
  return { endpoint, caFile: ca_file, ratio, isParentBased: parent_based };
}

function buildIssuer(issuer: AgentConfigFile['users']['issuers'][number]): IssuerConfig {
  const { name, audiences, algorithms, keys_file, keys_url, keys_ca_file } = issuer;
  return {
    name,
    issuer: issuer.issuer,
    audiences,
    algorithms,
    keys:
      keys_file === undefined
        ? { kind: 'url', url: keys_url ?? '', caFile: keys_ca_file }
        : { kind: 'file', path: keys_file },
    refreshMs: issuer.refresh_seconds * 1000,
    maxKeyAgeMs: issuer.max_key_age_seconds * 1000,
  };
}

function buildLimits(limits: AgentConfigFile['limits']): AgentConfig['limits'] {
  return {
    connections: limits.connections,
    connectionsPerHost: limits.connections_per_host,
    udpFlows: limits.udp_flows,
    workloadApi: {
      maxConnections: limits.workload_api_connections,
      maxConnectionsPerUid: limits.workload_api_connections_per_user,
      maxStreamsPerUid: limits.workload_api_streams_per_user,
    },
  };
}

/** As Node's resolver takes it. */
function resolverOf({ host, port }: HostAndPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function addressOf({ host, port }: HostAndPort): SocketAddress {
  return { address: host, port };
}

function buildTrust(trust: AgentConfigFile['trust']): AgentConfig['trust'] {
  if (trust.bundle_file !== undefined) return { kind: 'file', path: trust.bundle_file };
  if (trust.root_key_sha256 !== undefined) return { kind: 'pin', sha256: trust.root_key_sha256 };
  throw new TypeError('The schema lets none of the kinds of trust through');
}

function buildAttestation(attestation: AgentConfigFile['attestation']): AttestationConfig {
  const { join_token, join_token_file, tpm } = attestation;
  if (join_token !== undefined) return { kind: 'join_token', token: join_token };
  if (join_token_file !== undefined) return { kind: 'join_token_file', path: join_token_file };
  if (tpm === undefined) throw new TypeError('The schema lets no kind of attestation through');
  const { device, ek, ak, endorsement_password_file } = tpm;
  return { kind: 'tpm', device, ek, ak, endorsementPasswordFile: endorsement_password_file };
}
