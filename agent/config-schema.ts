import { isIP } from 'node:net';
import { z } from 'zod';
import {
  absolutePath,
  hostAndPort,
  logLevel,
  loopbackAddress,
  socketPath,
} from '../shared/config/config-values.ts';
import { BACKEND_CHOICES } from './capture/capture.ts';
import { ipAddress, port, sha256Hex, trustDomain } from '../shared/protocol/wire-values.ts';

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
const MAX_FORWARDS = 64;

const literalAddress = hostAndPort.refine(
  ({ host }) => isIP(host) !== 0,
  'must be an IP address and a port, such as 10.0.0.2:80',
);

const forward = z.strictObject({ listen: loopbackAddress, to: literalAddress });

const egress = z.strictObject({ resolvers: z.array(literalAddress).max(8).default([]) });

const mesh = z.strictObject({
  reuse_connections: z.boolean().default(true),
  resume_sessions: z.boolean().default(true),
});

const exclude = z.strictObject({
  inbound_ports: z.array(port).max(MAX_LIST).default([22]),
  outbound_ports: z.array(port).max(MAX_LIST).default([]),
  outbound_addresses: z.array(z.string().max(64)).max(MAX_LIST).default([]),
  users: z.array(z.number().int().min(0).max(MAX_UID)).max(MAX_LIST).default([]),
});

const capture = z.strictObject({
  enabled: z.boolean().default(true),
  backend: z.enum(BACKEND_CHOICES).default('nftables'),
  bpf_dir: absolutePath.default('/sys/fs/bpf/picket'),
  cgroup: absolutePath.optional(),
  mark: z.number().int().min(1).max(0xffff_ffff).default(0x5049),
  rules_file: absolutePath.optional(),
  exclude: exclude.prefault({}),
  allow_udp: z
    .array(z.strictObject({ address: z.string().max(64), port }))
    .max(MAX_LIST)
    .default([]),
});

const MIB = 1024 * 1024;

const audit = z.strictObject({
  max_bytes: z
    .number()
    .int()
    .min(16 * MIB)
    .max(1024 * 1024 * MIB)
    .default(1024 * MIB),
  durability: z.enum(['group', 'sync']).default('group'),
});

const count = (fallback: number) => z.number().int().min(1).max(1_000_000).default(fallback);

const limits = z.strictObject({
  connections: count(10_000),
  connections_per_host: count(4096),
  workload_api_connections: count(4096),
  workload_api_connections_per_user: count(1024),
  workload_api_streams_per_user: count(2048),
});

/** The whole file. */
export const agentConfigFile = z.strictObject({
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
  mesh: mesh.prefault({}),
  audit: audit.prefault({}),
  log_level: logLevel,
  metrics_address: loopbackAddress.nullable().prefault('127.0.0.1:15020'),
  readiness_address: loopbackAddress.nullable().prefault('127.0.0.1:15021'),
  limits: limits.prefault({}),
});

export type AgentConfigFile = z.output<typeof agentConfigFile>;
