import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSettings } from '../shared/config/config-source.ts';
import { parseConfig, type HostAndPort } from '../shared/config/config-values.ts';
import type { TrustDomain } from '../shared/spiffe/trust-domain.ts';
import { PicketError } from '../shared/errors/errors.ts';
import type { LogLevel } from '../shared/runtime/log.ts';
import type { CapturePorts, CaptureSettings } from './capture/capture.ts';
import type { CaptureChoice } from './capture/open-capture.ts';
import { resolveSettings } from './capture/resolved-settings.ts';
import type { SocketAddress } from './native/socket-address.ts';
import type { Forward } from './proxy/forward.ts';
import { agentConfigFile, type AgentConfigFile } from './config-schema.ts';

/** How the host proves itself (one kind). */
export type AttestationConfig =
  | { readonly kind: 'join_token'; readonly token: string }
  | { readonly kind: 'join_token_file'; readonly path: string }
  | {
      readonly kind: 'tpm';
      /** As `openTpmDevice` takes it. */
      readonly device: string;
      readonly ek: 'auto' | 'rsa' | 'ecc';
      readonly ak: 'ecc' | 'rsa';
      readonly endorsementPasswordFile: string | undefined;
    };

/** The agent's settings, checked and complete. */
export interface AgentConfig {
  readonly trustDomain: TrustDomain;
  /** Tried in this order. */
  readonly servers: readonly HostAndPort[];
  readonly trust:
    { readonly kind: 'file'; readonly path: string } | { readonly kind: 'pin'; readonly sha256: string };
  readonly attestation: AttestationConfig;
  /** The addresses that the agent claims for its host; undefined: those of its interfaces. */
  readonly addresses: readonly string[] | undefined;
  readonly dataDirectory: string;
  readonly sealKeyFile: string;
  readonly sockets: { readonly workloadApi: string; readonly admin: string };
  readonly ports: CapturePorts;
  readonly capture: {
    /** Whether the agent installs the rules and keeps them. It answers on its ports either way. */
    readonly isEnabled: boolean;
    /** With what, and what eBPF needs for it. */
    readonly choice: CaptureChoice;
    readonly mark: number;
    /** Where the rules are kept for the next boot. */
    readonly rulesFile: string;
    readonly exclude: CaptureSettings['exclude'];
    readonly allowUdp: CaptureSettings['allowUdp'];
  };
  /** `resolvers`: whom to ask where names outside of the mesh lead, `address:port`; none: those of the host. */
  readonly egress: { readonly resolvers: readonly string[] };
  /** Ports of this host that lead to a service of the mesh, for programs whose connections cannot be captured. */
  readonly forwards: readonly Forward[];
  /** Whether TLS connections between agents are used again, and their sessions resumed. */
  readonly mesh: { readonly reusesConnections: boolean; readonly resumesSessions: boolean };
  readonly audit: {
    readonly directory: string;
    readonly maxBytes: number;
    readonly durability: 'group' | 'sync';
  };
  readonly logLevel: LogLevel;
  /** Undefined: not served. */
  readonly metrics: HostAndPort | undefined;
  readonly readiness: HostAndPort | undefined;
  readonly limits: {
    readonly connections: number;
    /** From one other host. */
    readonly connectionsPerHost: number;
    readonly workloadApi: {
      readonly maxConnections: number;
      readonly maxConnectionsPerUid: number;
      readonly maxStreamsPerUid: number;
    };
  };
}

/** Connections that are steered and not accepted yet, or refused, are remembered too. Each place takes some 100 bytes of the kernel. */
const RECORDS_PER_CONNECTION = 4;
const MIN_RECORDS = 16_384;
const MAX_RECORDS = 1_048_576;

/** Variables that go over the file: `PICKET_AGENT__CAPTURE__ENABLED=false`. */
const PREFIX = 'PICKET_AGENT';

/**
 * Reads agent.yaml and what the environment says over it. Throws like `parseAgentConfig`, and `invalid_argument`, reason `config_unreadable`, when there is no
 * such file.
 */
export async function readAgentConfig(
  path: string,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<AgentConfig> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new PicketError('invalid_argument', 'config_unreadable', `Cannot read ${path}`, { cause });
  });
  const parseYaml = (yaml: string): unknown => Bun.YAML.parse(yaml);
  return parseAgentConfig(readSettings({ text, path, environment, prefix: PREFIX, parseYaml }));
}

/** Checks what stands in agent.yaml. Throws `invalid_argument`, reason `config_invalid`, naming every setting that is wrong. */
export function parseAgentConfig(value: unknown): AgentConfig {
  const config = buildConfig(parseConfig(agentConfigFile, value, 'agent'));
  // What the rules cannot express is told now, not when the agent starts.
  resolveSettings(captureSettingsOf(config, { sshPorts: [], localPorts: [], agentUid: 0 }));
  return config;
}

/** What capture is asked for. `sshPorts` are kept out whatever the file says (design: decision 29). */
export function captureSettingsOf(
  config: AgentConfig,
  host: {
    readonly sshPorts: readonly number[];
    readonly localPorts: readonly number[];
    readonly agentUid: number;
  },
): CaptureSettings {
  const { mark, exclude, allowUdp } = config.capture;
  return {
    ports: config.ports,
    mark,
    agentUid: host.agentUid,
    exclude: { ...exclude, inboundPorts: [...new Set([...exclude.inboundPorts, ...host.sshPorts])] },
    allowUdp,
    localPorts: host.localPorts,
  };
}

function buildConfig(file: AgentConfigFile): AgentConfig {
  const { capture, audit, limits } = file;
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
    capture: {
      isEnabled: capture.enabled,
      choice: {
        backend: capture.backend,
        bpfFolder: capture.bpf_dir,
        cgroup: capture.cgroup,
        maxRecords: Math.min(MAX_RECORDS, Math.max(MIN_RECORDS, RECORDS_PER_CONNECTION * limits.connections)),
      },
      mark: capture.mark,
      rulesFile: capture.rules_file ?? join(file.data_dir, 'capture.nft'),
      exclude: {
        inboundPorts: capture.exclude.inbound_ports,
        outboundPorts: capture.exclude.outbound_ports,
        outboundAddresses: capture.exclude.outbound_addresses,
        users: capture.exclude.users,
      },
      allowUdp: capture.allow_udp,
    },
    egress: { resolvers: file.egress.resolvers.map(resolverOf) },
    forwards: file.forwards.map(({ listen, to }) => ({ listen: addressOf(listen), to: addressOf(to) })),
    mesh: { reusesConnections: file.mesh.reuse_connections, resumesSessions: file.mesh.resume_sessions },
    audit: {
      directory: join(file.data_dir, 'audit'),
      maxBytes: audit.max_bytes,
      durability: audit.durability,
    },
    logLevel: file.log_level,
    metrics: file.metrics_address ?? undefined,
    readiness: file.readiness_address ?? undefined,
    limits: {
      connections: limits.connections,
      connectionsPerHost: limits.connections_per_host,
      workloadApi: {
        maxConnections: limits.workload_api_connections,
        maxConnectionsPerUid: limits.workload_api_connections_per_user,
        maxStreamsPerUid: limits.workload_api_streams_per_user,
      },
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
