import { isIP } from 'node:net';
import { z } from 'zod';
import {
  absolutePath,
  hostAndPort,
  logLevel,
  loopbackAddress,
  socketPath,
} from '../../shared/config/config-values.ts';
import { isAuthorityName } from '../../shared/policy/egress-terms.ts';
import { BACKEND_CHOICES } from '../capture/capture.ts';
import { formatCidr, parseCidr, type Cidr } from '../capture/cidr.ts';
import { hasHboneClash } from '../directory/hbone-peers.ts';
import { INSIDE_NETWORKS, isPartlyInside } from '../egress/inside-networks.ts';
import { MAX_WORKERS } from '../workers/count-workers.ts';
import { ipAddress, port, sha256Hex, spiffeId, trustDomain } from '../../shared/protocol/wire-values.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { namespacesSchema } from './namespaces-schema.ts';
import { SIGNATURE_ALGORITHMS } from '../users/signature-algorithms.ts';

/** What may stand in agent.yaml. Names are those of the file; what each means is told by config-example.ts. Unknown keys are refused everywhere. */

const MAX_UID = 0xffff_fffe;

/** Exactly one of the keys of an object must be there. */
function exactlyOne(value: Readonly<Record<string, unknown>>): boolean {
  return Object.values(value).filter((each) => each !== undefined).length === 1;
}

const trust = z
  .strictObject({ bundle_file: absolutePath.optional(), root_key_sha256: sha256Hex.optional() })
  .refine(exactlyOne, 'must have either bundle_file or root_key_sha256');

const tpm = z.strictObject({
  device: z.string().max(256).default('/dev/tpmrm0'),
  ek: z.enum(['auto', 'rsa', 'ecc']).default('auto'),
  ak: z.enum(['ecc', 'rsa']).default('ecc'),
  endorsement_password_file: absolutePath.optional(),
});

const attestation = z
  .strictObject({
    join_token: z.string().min(1).max(512).optional(),
    join_token_file: absolutePath.optional(),
    tpm: tpm.optional(),
  })
  .refine(exactlyOne, 'must have exactly one of join_token, join_token_file and tpm');

const sockets = z.strictObject({
  workload_api: socketPath.default('/run/picket/agent.sock'),
  admin: socketPath.default('/run/picket/admin.sock'),
});

const ports = z
  .strictObject({
    outbound: port.default(15_001),
    inbound: port.default(15_006),
    mesh: port.default(15_008),
  })
  .refine((value) => new Set(Object.values(value)).size === 3, 'must be three different ports');

const MAX_LIST = 1024;

const network = z
  .string()
  .max(64)
  .transform((text, context): Cidr => {
    try {
      return parseCidr(text);
    } catch {
      const message = 'must be an address or a network, such as 10.0.0.0/8 or fd00::/8';
      context.issues.push({ code: 'custom', input: text, message });
      return z.NEVER;
    }
  });

const insideNetwork = network.refine(
  isPartlyInside,
  `has no inside address (${INSIDE_NETWORKS.map(formatCidr).join(', ')}): to others a gateway takes what the policy sends there, unless egress.gateway_refuses names them`,
);

const MAX_FORWARDS = 64;

const literalAddress = hostAndPort.refine(
  ({ host }) => isIP(host) !== 0,
  'must be an IP address and a port, such as 10.0.0.2:80',
);

const forward = z.strictObject({ listen: loopbackAddress, to: literalAddress });

const authorityName = z.string().refine(isAuthorityName, 'must be a name such as partner-ca');

const MAX_AUTHORITIES = 64;

const inspection = z.strictObject({
  certificate_file: absolutePath,
  key_file: absolutePath,
  server_authorities_file: absolutePath.optional(),
});

const egress = z.strictObject({
  resolvers: z.array(literalAddress).max(8).default([]),
  udp: z.enum(['drop', 'policy']).default('drop'),
  authorities: z
    .record(authorityName, absolutePath)
    .refine((value) => Object.keys(value).length <= MAX_AUTHORITIES, `must be at most ${MAX_AUTHORITIES}`)
    .default({}),
  inspection: inspection.optional(),
  gateway_refuses: z.array(network).max(MAX_LIST).default([]),
  gateway_allows: z.array(insideNetwork).max(MAX_LIST).default([]),
});

const hbonePeer = z.strictObject({
  addresses: z.array(ipAddress).min(1).max(MAX_LIST),
  ports: z.array(port).min(1).max(MAX_LIST).optional(),
  spiffe_id: spiffeId.refine((id) => identityKindOf(id) === 'workload', 'must be the identity of a workload'),
});

const hbone = z.strictObject({
  accept: z.boolean().default(true),
  peers: z
    .array(hbonePeer)
    .max(MAX_LIST)
    .refine((peers) => !hasHboneClash(peers), 'must name one identity for one address and port')
    .default([]),
});

const proxy = z.strictObject({
  workers: z.union([z.literal('auto'), z.number().int().min(1).max(MAX_WORKERS)]).default(1),
});

/** Ready for each pair of workloads and host. */
const MAX_SPARES = 16;

const mesh = z.strictObject({
  reuse_connections: z.boolean().default(true),
  resume_sessions: z.boolean().default(true),
  spares: z.number().int().min(0).max(MAX_SPARES).default(0),
  hbone: hbone.prefault({}),
});

const exclude = z.strictObject({
  inbound_ports: z.array(port).max(MAX_LIST).default([22]),
  outbound_ports: z.array(port).max(MAX_LIST).default([]),
  outbound_addresses: z.array(network).max(MAX_LIST).default([]),
  users: z.array(z.number().int().min(0).max(MAX_UID)).max(MAX_LIST).default([]),
});

const allowedUdp = z.strictObject({ address: network, port });

const capture = z.strictObject({
  enabled: z.boolean().default(true),
  backend: z.enum(BACKEND_CHOICES).default('nftables'),
  bpf_dir: absolutePath.default('/sys/fs/bpf/picket'),
  cgroup: absolutePath.optional(),
  mark: z.number().int().min(1).max(0xffff_ffff).default(0x5049),
  transparent_id: z.number().int().min(256).max(0xffff).default(0x504a),
  rules_file: absolutePath.optional(),
  namespaces: namespacesSchema,
  exclude: exclude.prefault({}),
  allow_udp: z.array(allowedUdp).max(MAX_LIST).default([]),
});

const MAX_ISSUERS = 16;
const MAX_NETWORKS = 64;

/** Names that stand in a policy and before the subject of a user. */
const shortName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be 1 to 32 lower-case letters, digits, - and _');

const httpsUrl = z
  .url({ protocol: /^https$/, error: 'must be an https URL' })
  .max(2048)
  .refine((text) => new URL(text).username === '', 'must not hold a name or a password');

const issuer = z
  .strictObject({
    name: shortName,
    issuer: z.string().min(1).max(512),
    audiences: z.array(z.string().min(1).max(512)).min(1).max(32),
    keys_file: absolutePath.optional(),
    keys_url: httpsUrl.optional(),
    keys_ca_file: absolutePath.optional(),
    algorithms: z.array(z.enum(SIGNATURE_ALGORITHMS)).min(1).default(['RS256', 'PS256', 'ES256', 'EdDSA']),
    refresh_seconds: z.number().int().min(10).max(86_400).default(300),
    max_key_age_seconds: z.number().int().min(60).max(2_592_000).default(86_400),
  })
  .refine(
    ({ keys_file, keys_url }) => exactlyOne({ keys_file, keys_url }),
    'must have either keys_file or keys_url',
  )
  .refine(
    ({ keys_url, keys_ca_file }) => keys_ca_file === undefined || keys_url !== undefined,
    'keys_ca_file is for keys_url',
  );

const issuers = z
  .array(issuer)
  .max(MAX_ISSUERS)
  .refine((list) => areDifferent(list.map(({ name }) => name)), 'two issuers have one name')
  .refine((list) => areDifferent(list.map(({ issuer: id }) => id)), 'two entries are for one issuer');

function areDifferent(values: readonly string[]): boolean {
  return new Set(values).size === values.length;
}

const users = z.strictObject({ issuers: issuers.default([]) });

/** In plaintext only to this host itself. */
const receiverUrl = z
  .url({ protocol: /^https?$/, error: 'must be an https URL, or http to a loopback address' })
  .max(2048)
  .refine(
    (text) => /^https:|^http:\/\/(127\.\d+\.\d+\.\d+|\[::1\])[:/]/.test(text),
    'must be an https URL, or http to a loopback address',
  )
  .refine((text) => new URL(text).username === '', 'must not hold a name or a password');

const traces = z.strictObject({
  endpoint: receiverUrl,
  ca_file: absolutePath.optional(),
  ratio: z.number().min(0).max(1).default(0.1),
  parent_based: z.boolean().default(true),
});

const networks = z
  .record(shortName, z.array(network).min(1).max(MAX_LIST))
  .refine((names) => Object.keys(names).length <= MAX_NETWORKS, `must be at most ${MAX_NETWORKS} names`);

const MIB = 1024 * 1024;

const audit = z.strictObject({
  max_bytes: z
    .number()
    .int()
    .min(16 * MIB)
    .max(1024 * 1024 * MIB)
    .default(1024 * MIB),
  durability: z.enum(['group', 'sync']).default('group'),
  queries: z.enum(['names', 'full', 'none']).default('names'),
});

const DAY_SECONDS = 86_400;

const upgrade = z.strictObject({ drain_seconds: z.number().int().min(1).max(DAY_SECONDS).default(300) });

const count = (fallback: number) => z.number().int().min(1).max(1_000_000).default(fallback);

const limits = z.strictObject({
  connections: count(10_000),
  connections_per_host: count(4096),
  udp_flows: z.number().int().min(16).max(4096).default(1024),
  workload_api_connections: count(4096),
  workload_api_connections_per_user: count(1024),
  workload_api_streams_per_user: count(2048),
});

const wholeFile = z.strictObject({
  trust_domain: trustDomain,
  servers: z.array(hostAndPort).min(1).max(16),
  trust,
  attestation,
  addresses: z.array(ipAddress).max(64).optional(),
  data_dir: absolutePath.default('/var/lib/picket/agent'),
  seal_key_file: absolutePath.optional(),
  sockets: sockets.prefault({}),
  ports: ports.prefault({}),
  capture: capture.prefault({}),
  egress: egress.prefault({}),
  forwards: z.array(forward).max(MAX_FORWARDS).default([]),
  proxy: proxy.prefault({}),
  mesh: mesh.prefault({}),
  networks: networks.default({}),
  users: users.prefault({}),
  traces: traces.optional(),
  audit: audit.prefault({}),
  upgrade: upgrade.prefault({}),
  log_level: logLevel,
  metrics_address: loopbackAddress.nullable().prefault('127.0.0.1:15020'),
  readiness_address: loopbackAddress.nullable().prefault('127.0.0.1:15021'),
  limits: limits.prefault({}),
});

/** The whole file. */
export const agentConfigFile = wholeFile
  .refine(({ capture: { mark, transparent_id } }) => mark !== transparent_id, {
    path: ['capture', 'transparent_id'],
    message: 'must not be capture.mark',
  })
  .refine(
    ({ capture, ports }) => !Object.values(ports).some((own) => capture.exclude.inbound_ports.includes(own)),
    {
      path: ['capture', 'exclude', 'inbound_ports'],
      message: 'must not name a port of the agent (ports)',
    },
  );

export type AgentConfigFile = z.output<typeof agentConfigFile>;
