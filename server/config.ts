import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import {
  absolutePath,
  hostAndPort,
  logLevel,
  loopbackAddress,
  parseConfig,
  socketPath,
  type HostAndPort,
} from '../shared/config/config-values.ts';
import { dnsName, ipAddress, trustDomain } from '../shared/protocol/wire-values.ts';
import type { LogLevel } from '../shared/runtime/log.ts';
import type { TrustDomain } from '../shared/spiffe/trust-domain.ts';
import type { RecordRates } from './audit/record-budget.ts';
import { DEFAULT_PCRS } from './node-attestation/default-pcrs.ts';

/** What may stand in a certificate beside the SPIFFE ID. The last label of a name is never a number: that would be an address that is none. */
const serverName = z.union([ipAddress, dnsName.regex(/(^|\.)[^.]*[^.\d][^.]*$/, 'is not a DNS name')]);

/** Below, a host whose batch was large would wait for hours. */
const recordsPerSecond = z.number().int().min(10).max(1_000_000);

/** What may stand in server.yaml; config-example.ts tells what each means. */
export const serverConfigFile = z.strictObject({
  trust_domain: trustDomain,
  ca: z.strictObject({ directory: absolutePath }),
  data_dir: absolutePath.default('/var/lib/picket/server'),
  keys: z
    .strictObject({ directory: absolutePath.optional(), secret_file: absolutePath.optional() })
    .prefault({}),
  database: z
    .strictObject({ url: z.string().max(4096).optional(), url_file: absolutePath.optional() })
    .refine(
      ({ url, url_file }) => url === undefined || url_file === undefined,
      'must not have both url and url_file',
    )
    .prefault({}),
  listen: z
    .strictObject({
      agents: hostAndPort.prefault('0.0.0.0:8443'),
      operators: hostAndPort.nullable().prefault('0.0.0.0:8444'),
      socket: socketPath.default('/run/picket-server/server.sock'),
      names: z.array(serverName).max(16).optional(),
    })
    .prefault({}),
  svid: z
    .strictObject({ agent_ttl_seconds: z.number().int().min(60).max(604_800).default(86_400) })
    .prefault({}),
  tpm: z
    .strictObject({
      pcrs: z
        .array(z.number().int().min(0).max(23))
        .min(1)
        .max(24)
        .default([...DEFAULT_PCRS]),
      manufacturer_roots: absolutePath.optional(),
      manufacturer_intermediates: absolutePath.optional(),
      require_certificate: z.boolean().default(false),
    })
    .refine(
      ({ manufacturer_roots, require_certificate }) =>
        !require_certificate || manufacturer_roots !== undefined,
      'require_certificate needs manufacturer_roots',
    )
    .prefault({}),
  policy: z
    .strictObject({ opa: z.string().max(4096).default('opa'), temporary_dir: absolutePath.optional() })
    .prefault({}),
  audit: z
    .strictObject({
      retention_days: z.number().int().min(1).max(36_500).default(365),
      denials_per_second: recordsPerSecond.nullable().default(500),
      records_per_second: recordsPerSecond.nullable().default(null),
    })
    .prefault({}),
  log_level: logLevel,
  metrics_address: loopbackAddress.nullable().prefault('127.0.0.1:15022'),
});

/** The server's settings, checked and complete. */
export interface ServerConfig {
  readonly trustDomain: TrustDomain;
  /** The folder `online` of `picket ca init`. */
  readonly caDirectory: string;
  readonly dataDirectory: string;
  readonly keys: { readonly directory: string; readonly secretFile: string };
  /** Undefined: the embedded database. */
  readonly database: { readonly url: string | undefined; readonly urlFile: string | undefined };
  readonly listen: {
    readonly agents: HostAndPort;
    /** Undefined: operators come by the local socket only. */
    readonly operators: HostAndPort | undefined;
    readonly socket: string;
    /** DNS names and IP addresses in the server’s certificate, for clients that verify a server by its name. */
    readonly names: readonly string[];
  };
  readonly agentTtlSeconds: number;
  readonly tpm: {
    readonly pcrs: readonly number[];
    readonly rootsFile: string | undefined;
    readonly intermediatesFile: string | undefined;
    readonly isCertificateRequired: boolean;
  };
  readonly policy: { readonly opa: string; readonly temporaryDirectory: string };
  readonly auditRetentionMs: number;
  /** Of each host. */
  readonly recordRates: RecordRates;
  readonly logLevel: LogLevel;
  /** Undefined: not served. */
  readonly metrics: HostAndPort | undefined;
}

const DAY_MS = 86_400_000;

/** Checks what stands in server.yaml. Throws `invalid_argument`, reason `config_invalid`, naming every setting that is wrong. */
export function parseServerConfig(value: unknown): ServerConfig {
  const file = parseConfig(serverConfigFile, value, 'server');
  return {
    trustDomain: file.trust_domain,
    caDirectory: file.ca.directory,
    dataDirectory: file.data_dir,
    keys: {
      directory: file.keys.directory ?? join(file.data_dir, 'keys'),
      secretFile: file.keys.secret_file ?? join(file.data_dir, 'keys.secret'),
    },
    database: { url: file.database.url, urlFile: file.database.url_file },
    listen: {
      agents: file.listen.agents,
      operators: file.listen.operators ?? undefined,
      socket: file.listen.socket,
      names: file.listen.names ?? ownNames(),
    },
    agentTtlSeconds: file.svid.agent_ttl_seconds,
    tpm: {
      pcrs: file.tpm.pcrs,
      rootsFile: file.tpm.manufacturer_roots,
      intermediatesFile: file.tpm.manufacturer_intermediates,
      isCertificateRequired: file.tpm.require_certificate,
    },
    policy: {
      opa: file.policy.opa,
      temporaryDirectory: file.policy.temporary_dir ?? join(file.data_dir, 'tmp'),
    },
    auditRetentionMs: file.audit.retention_days * DAY_MS,
    recordRates: {
      denials: file.audit.denials_per_second ?? undefined,
      records: file.audit.records_per_second ?? undefined,
    },
    logLevel: file.log_level,
    metrics: file.metrics_address ?? undefined,
  };
}

/** The name of this host, where DNS could have it, and the names by which it calls itself. */
function ownNames(): readonly string[] {
  const own = dnsName.safeParse(hostname().toLowerCase());
  return [...new Set([...(own.success ? [own.data] : []), 'localhost', '127.0.0.1', '::1'])];
}
