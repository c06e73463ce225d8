import { z } from 'zod';
import { accessRecord, decisionOutcome } from './audit.ts';
import { MAX_PAGE, pageOf } from './page.ts';
import { entry, newEntry } from './registration.ts';
import { locality } from './service.ts';
import { agentStatus } from './sync.ts';
import { base64, counter, ipAddress, sha256Hex, spiffeId, timestamp } from './wire-values.ts';

/**
 * What operators and the command line say to the server, on 8444 or on the local unix socket. Every list is a page.
 */

export const paging = z.object({
  cursor: z.string().max(4096).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(100),
});

/** PCR number to the SHA-256 values that are accepted. */
export const expectedPcrs = z.record(
  z.string().regex(/^(\d|1\d|2[0-3])$/, 'is not a PCR number'),
  z.array(sha256Hex).min(1).max(16),
);

/** Entries: GET, POST /entries; GET, PUT, DELETE /entries/{entryId}. PUT carries the revision it was made from. */
export const entryUpdate = newEntry.extend({ revision: counter });
export const entryPage = pageOf(entry);

/** Join tokens: POST /tokens shows the token once. */
const nodeName = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,128}$/, 'is not a node name: letters, digits, dot, dash, underscore');
export const newToken = z.object({
  name: nodeName,
  addresses: z.array(ipAddress).max(64).default([]),
  ttlSeconds: z
    .number()
    .int()
    .min(10)
    .max(86_400 * 7)
    .default(600),
});
export const createdToken = z.object({
  token: z.string(),
  /** The SPIFFE ID that the agent will have: the parent of the entries of this host. */
  agentId: spiffeId,
  expiresAt: timestamp,
  /** SHA-256 of the root's public key (SubjectPublicKeyInfo DER), which the agent pins. */
  rootKeySha256: sha256Hex,
});
export const tokenSummary = z.object({
  tokenHash: sha256Hex,
  name: z.string(),
  expiresAt: timestamp,
  usedAt: timestamp.nullable(),
  createdBy: z.string(),
});
export const tokenPage = pageOf(tokenSummary);

/** TPM hosts: GET /tpm-hosts; PUT /tpm-hosts/{ekHash} approves or denies; DELETE forgets. */
export const tpmHostDecision = z.object({
  state: z.enum(['approved', 'denied']),
  name: z.union([nodeName, z.literal('')]).default(''),
  expectedPcrs: expectedPcrs.default({}),
  addresses: z.array(ipAddress).max(64).default([]),
});
export const tpmHost = tpmHostDecision.extend({
  ekHash: sha256Hex,
  state: z.enum(['pending', 'approved', 'denied']),
  /** The SPIFFE ID that its agent has or will have. */
  agentId: spiffeId,
  hasTrustedCertificate: z.boolean(),
  createdAt: timestamp,
});
export const tpmHostPage = pageOf(tpmHost);

/** Nodes: GET /nodes, GET /nodes/{id}, POST /nodes/{id}/ban, DELETE /nodes/{id} (evict), PUT and DELETE /nodes/{id}/addresses/{address}. */
export const nodeAddress = z.object({
  network: z.string().max(63),
  address: ipAddress,
  state: z.enum(['pending', 'confirmed']),
  proof: z.enum(['none', 'operator', 'reached']),
});
export const node = z.object({
  nodeId: spiffeId,
  attestationType: z.string(),
  certSerial: z.string(),
  expiry: timestamp,
  selectors: z.array(z.string()),
  canReattest: z.boolean(),
  isBanned: z.boolean(),
  attestedAt: timestamp,
  lastSeenAt: timestamp,
  agentVersion: z.string(),
  status: agentStatus.nullable(),
  /** Where it is, as an operator declared; absent: nobody did. */
  locality: locality.optional(),
  addresses: z.array(nodeAddress),
});
export const nodePage = pageOf(node);

/** Policies: POST /policies, GET /policies, GET /policies/{version}, POST /policies/rollback, GET or POST /policies/evaluate. */
export const policyTarget = z.enum(['mesh', 'admin']);
export const policySummary = z.object({
  target: policyTarget,
  version: counter,
  digest: sha256Hex,
  message: z.string(),
  createdBy: z.string(),
  createdAt: timestamp,
  /** The sequence of its newest activation if it is the version in force, otherwise null. */
  activeSequence: counter.nullable(),
});
export const policyPage = pageOf(policySummary);
export const policyContent = policySummary.extend({ files: z.record(z.string(), z.string()) });
export const policyActivated = z.object({
  target: policyTarget,
  version: counter,
  sequence: counter,
  digest: sha256Hex,
});
/** What came of a publication: `warnings` are what people should look at twice, `testCount` how many of its own tests passed. */
export const policyPublished = policyActivated.extend({ warnings: z.array(z.string()), testCount: counter });
export const policyRollback = z.object({ target: policyTarget.default('mesh'), version: counter });

/** A hypothetical request. Without `method` it is a connection. */
/** By GET, names with commas between them. */
const networkNames = z.union([
  z
    .string()
    .max(2048)
    .transform((names) => names.split(',').filter((name) => name !== '')),
  z.array(z.string().max(32)).max(64),
]);

export const policyQuestion = z.object({
  caller: z.union([spiffeId, z.literal('')]).default(''),
  /** Empty for a destination outside of the mesh. */
  target: z.union([spiffeId, z.literal('')]).default(''),
  /** The DNS name that the client asks for, outside of the mesh, taken for one that leads there. */
  domain: z.string().max(253).default(''),
  /** A connection without `method` is TLS, and says this name. */
  serverName: z.string().max(255).optional(),
  method: z.string().max(32).optional(),
  path: z.string().max(8192).default('/'),
  headers: z.record(z.string(), z.string()).default({}),
  host: z.string().max(253).default(''),
  sourceAddress: ipAddress.optional(),
  /** Named networks that the caller is in, and others that the host knows and it is not in. */
  inNetworks: networkNames.optional(),
  outsideNetworks: networkNames.optional(),
  /** Claims of a verified user token, as JSON; absent: no user. */
  userClaims: z.string().max(8192).optional(),
  /** Configured name of the issuer of that token. */
  userIssuer: z.string().max(32).default('issuer'),
  /** `udp`: a flow of datagrams; absent: what the rest of the question makes it. */
  protocol: z.literal('udp').optional(),
  targetAddress: ipAddress.optional(),
  targetPort: z.coerce.number().int().min(1).max(65535).default(443),
  /** `outbound` asks the calling side's rule, `egress`. */
  direction: z.enum(['inbound', 'outbound']).default('inbound'),
  /** When it would happen; now if absent. */
  at: timestamp.optional(),
  version: z.coerce.number().int().min(1).optional(),
});
export const policyAnswer = z.object({
  decision: decisionOutcome,
  /** Rules in audit that would deny it. The mode of the service is not asked: this is what the policy says. */
  wouldDeny: z.array(z.string()).optional(),
  /** The gateway that must take it out of the mesh. */
  via: spiffeId.optional(),
  /** What the outside server must prove. */
  serverCertificate: z
    .object({ spkiSha256: z.array(sha256Hex).optional(), authority: z.string().optional() })
    .optional(),
  /** Its TLS must be ended on the way, and each request within be decided. */
  inspect: z.literal(true).optional(),
  reason: z.string(),
  message: z.string(),
  version: counter.nullable(),
  /** Rules that fired, with the place where each stands. */
  rules: z.array(z.object({ rule: z.string(), file: z.string(), line: z.number().int() })),
  input: z.record(z.string(), z.unknown()),
});

/** GET /workloads/{spiffe_id}/certificate: one ID lives on many nodes. */
export const workloadCertificates = z.object({
  spiffeId,
  certificates: z.array(
    z.object({
      serial: z.string(),
      nodeId: spiffeId,
      entryId: z.uuid().nullable(),
      notBefore: timestamp,
      notAfter: timestamp,
      chainPem: z.string(),
    }),
  ),
});

/** GET /audit/access?caller=&target=&from=&to=&decision=&decision_id= and GET /audit/operators. Newest first. */
export const accessQuery = paging.extend({
  caller: spiffeId.optional(),
  target: spiffeId.optional(),
  from: timestamp.optional(),
  to: timestamp.optional(),
  decision: decisionOutcome.optional(),
  /** Only what passed in audit mode and would have been denied. */
  would_deny: z.literal('true').optional(),
  decision_id: z.string().max(80).optional(),
});
export const storedAccessRecord = accessRecord.extend({ node_id: spiffeId, sequence: counter });
export const accessPage = pageOf(storedAccessRecord);
export const operatorAction = z.object({
  id: counter,
  ts: timestamp,
  actor: z.string(),
  action: z.string(),
  subject: z.string(),
  decision: decisionOutcome,
  outcome: z.string(),
  detail: z.record(z.string(), z.unknown()),
});
export const operatorActionPage = pageOf(operatorAction);

/** Operators: POST /operators signs a request for a client certificate; GET /operators; DELETE /operators/{name} revokes. */
export const operatorRole = z.enum(['admin', 'policy-author', 'registrar', 'auditor']);
export const newOperator = z.object({
  name: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'is not a name: letters, digits, dot, dash, underscore'),
  roles: z.array(operatorRole).min(1).max(8),
  /** PKCS#10, DER in base64: the private key stays with the operator. */
  csr: base64(8192),
  ttlSeconds: z
    .number()
    .int()
    .min(60)
    .max(86_400 * 365)
    .default(86_400 * 30),
});
export const createdOperator = z.object({
  name: z.string(),
  spiffeId,
  notAfter: timestamp,
  /** Leaf and intermediates. */
  chainPem: z.string(),
  /** The roots against which the server is verified. */
  bundlePem: z.string(),
});
export const operatorSummary = z.object({
  name: z.string(),
  roles: z.array(operatorRole),
  notAfter: timestamp,
  isRevoked: z.boolean(),
  createdAt: timestamp,
});
export const operatorPage = pageOf(operatorSummary);

/** GET /health: what the server says of itself. */
export const serverHealth = z.object({
  status: z.enum(['ok', 'degraded']),
  version: z.string(),
  trustDomain: z.string(),
  datastore: z.string(),
  agentsConnected: counter,
  intermediateNotAfter: timestamp,
  changeSequence: counter,
  /** How far the server's clock was set ahead since it started, in milliseconds; negative: back. */
  clockJumpMs: z.number(),
  /** Whether that is too far for the certificates that it makes. */
  hasClockJumped: z.boolean(),
  /** Connections to its ports that were turned away since start because places ran short. */
  turnedAway: z.object({ count: counter, lastAt: timestamp.optional() }),
  /** Hosts that send more records than they may: how many, and the first of them. */
  heldBack: z
    .object({
      count: counter,
      hosts: z.array(z.object({ nodeId: spiffeId, why: z.enum(['denials', 'records']) })),
    })
    .default({ count: 0, hosts: [] }),
});

export type PolicyQuestion = z.output<typeof policyQuestion>;
export type PolicyAnswer = z.output<typeof policyAnswer>;
export type OperatorRole = z.output<typeof operatorRole>;
