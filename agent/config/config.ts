import { readFile } from 'node:fs/promises';
import { readSettings } from '../../shared/config/config-source.ts';
import { parseConfig, type HostAndPort } from '../../shared/config/config-values.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import type { LogLevel } from '../../shared/runtime/log.ts';
import type { CapturePorts, CaptureSettings } from '../capture/capture.ts';
import { formatCidr, type Cidr } from '../capture/cidr.ts';
import type { CaptureChoice } from '../capture/open-capture.ts';
import { resolveSettings } from '../capture/resolved-settings.ts';
import type { HbonePeer } from '../directory/hbone-peers.ts';
import type { InspectionFiles } from '../inspection/inspection.ts';
import type { NamespaceSettings } from '../namespaces/namespace-source.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { Forward } from '../proxy/captured/forward.ts';
import type { RecordedQueries } from '../proxy/records/recorded-path.ts';
import type { NetworkNames } from '../networks/named-networks.ts';
import type { TracesConfig } from '../traces/open-telemetry.ts';
import type { IssuerConfig } from '../users/open-users.ts';
import { countWorkers } from '../workers/count-workers.ts';
import { buildConfig } from './build-config.ts';
import { agentConfigFile } from './config-schema.ts';

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
    /** As `CaptureSettings.transparentId`. */
    readonly transparentId: number;
    /** Where the rules are kept for the next boot. */
    readonly rulesFile: string;
    /** Network namespaces of this host that are captured beside its own. */
    readonly namespaces: NamespaceSettings;
    readonly exclude: CaptureSettings['exclude'];
    readonly allowUdp: CaptureSettings['allowUdp'];
  };
  /** `resolvers`: whom to ask where names outside of the mesh lead, `address:port`; none: those of the host. */
  readonly egress: {
    readonly resolvers: readonly string[];
    /** Whether the policy decides on UDP that leaves this host; dropped otherwise, but for what `allowUdp` and `resolvers` name. */
    readonly decidesUdp: boolean;
    /** Files with the certificates (PEM) of the authorities that policies may name. */
    readonly authorities: Readonly<Record<string, string>>;
    /** By what TLS is inspected; undefined: it is not, and what the policy wants inspected is refused. */
    readonly inspection: InspectionFiles | undefined;
    /** Networks to which this host takes nothing as a gateway. */
    readonly gatewayRefuses: readonly Cidr[];
    /** Inside networks to which it takes something as a gateway. */
    readonly gatewayAllows: readonly Cidr[];
  };
  /** Ports of this host that lead to a service of the mesh, for programs whose connections cannot be captured. */
  readonly forwards: readonly Forward[];
  /** `workers`: how many processes carry the traffic; 1: the agent itself; `auto`: one for each core. */
  readonly proxy: { readonly workers: number | 'auto' };
  /** Whether TLS connections between agents are used again, and their sessions resumed. */
  readonly mesh: {
    readonly reusesConnections: boolean;
    readonly resumesSessions: boolean;
    /** Connections that stand ready where there is traffic, for each calling workload, called workload and host. */
    readonly spares: number;
    /** Whether peers of other meshes may call by HBONE, and where there are some to be called. */
    readonly hbone: { readonly isAccepted: boolean; readonly peers: readonly HbonePeer[] };
  };
  /** Networks that policies know by name. */
  readonly networks: NetworkNames;
  /** Undefined: nothing is traced. */
  readonly traces: TracesConfig | undefined;
  /** Whose tokens tell who the user is. */
  readonly issuers: readonly IssuerConfig[];
  readonly audit: {
    readonly directory: string;
    readonly maxBytes: number;
    readonly durability: 'group' | 'sync';
    /** What records keep of the query of a request. */
    readonly queries: RecordedQueries;
  };
  /** How long connections may go on after another process took over from this one. */
  readonly upgrade: { readonly drainMs: number };
  readonly logLevel: LogLevel;
  /** Undefined: not served. */
  readonly metrics: HostAndPort | undefined;
  readonly readiness: HostAndPort | undefined;
  readonly limits: {
    readonly connections: number;
    /** From one other host. */
    readonly connectionsPerHost: number;
    /** Flows of UDP that pass at once. */
    readonly udpFlows: number;
    readonly workloadApi: {
      readonly maxConnections: number;
      readonly maxConnectionsPerUid: number;
      readonly maxStreamsPerUid: number;
    };
  };
}

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
  requireWhatNamespacesNeed(config);
  // Throws where the spool is too small to be divided among them.
  countWorkers(config);
  // What the rules cannot express is told now, not when the agent starts.
  resolveSettings(captureSettingsOf(config, { sshPorts: [], localPorts: [], agentUid: 0 }));
  return config;
}

/** What capture is asked for. `sshPorts` are kept out whatever the file says. */
export function captureSettingsOf(
  config: AgentConfig,
  host: {
    readonly sshPorts: readonly number[];
    readonly localPorts: readonly number[];
    readonly transparentPorts?: readonly number[];
    readonly agentUid: number;
  },
): CaptureSettings {
  const { mark, transparentId, exclude, allowUdp, namespaces } = config.capture;
  return {
    ports: config.ports,
    mark,
    transparentId,
    agentUid: host.agentUid,
    exclude: { ...exclude, inboundPorts: [...new Set([...exclude.inboundPorts, ...host.sshPorts])] },
    allowUdp,
    resolvers: config.egress.resolvers.map(splitEndpoint),
    decidesUdp: config.egress.decidesUdp,
    namespaceAddresses: [
      ...namespaces.named.flatMap(({ addresses }) => addresses),
      ...namespaces.patterns.flatMap(({ routedIn }) => routedIn.map(formatCidr)),
    ],
    localPorts: host.localPorts,
    transparentPorts: host.transparentPorts ?? [],
  };
}

/** What is asked for within another namespace: nothing of it is left alone. */
export function enclosedSettingsOf(
  config: AgentConfig,
  host: { readonly localPorts: readonly number[]; readonly agentUid: number },
): CaptureSettings {
  return {
    ports: config.ports,
    mark: config.capture.mark,
    agentUid: host.agentUid,
    exclude: { inboundPorts: [], outboundPorts: [], outboundAddresses: [], users: [] },
    allowUdp: config.capture.allowUdp,
    resolvers: config.egress.resolvers.map(splitEndpoint),
    decidesUdp: config.egress.decidesUdp,
    localPorts: host.localPorts,
  };
}

function requireWhatNamespacesNeed(config: AgentConfig): void {
  const { namespaces, isEnabled } = config.capture;
  if (namespaces.named.length + namespaces.patterns.length === 0) return;
  const refuse = (needs: string): PicketError =>
    new PicketError('invalid_argument', 'config_invalid', `capture.namespaces needs ${needs}`, {
      details: { faults: [{ message: `capture.namespaces: needs ${needs}` }] },
    });
  if (!isEnabled) throw refuse('capture.enabled: true');
}

/** `address:port`, with brackets around IPv6. */
function splitEndpoint(endpoint: string): SocketAddress {
  const at = endpoint.lastIndexOf(':');
  return { address: endpoint.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(endpoint.slice(at + 1)) };
}
