import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  customType,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  real,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import type { Listener } from '../../shared/protocol/registration.ts';
import type { ServiceAddress } from '../../shared/protocol/service.ts';
import type { AgentStatus } from '../../shared/protocol/sync.ts';

/** The one schema of PostgreSQL and PGlite. Migrations in `migrations/` are generated from it and embedded in the binary. */

const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' });
const at = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' });
const count = (name: string) => bigint(name, { mode: 'number' });

/** One row: which cluster this database is. The epoch changes when a backup is restored, so that no agent resumes over it. */
export const cluster = pgTable('cluster', {
  id: integer('id').primaryKey(),
  trustDomain: text('trust_domain').notNull(),
  epoch: text('epoch').notNull(),
  /** The number of the newest row of `change_log`: taken last in each writing transaction, so that the log has no gaps. */
  changeCounter: count('change_counter').notNull().default(0),
  createdAt: at('created_at').notNull().defaultNow(),
});

/** Which object changed, in order. The object itself is read when the change is sent. */
export const changeLog = pgTable('change_log', {
  sequence: count('sequence').primaryKey(),
  kind: text('kind').notNull(),
  key: text('key').notNull(),
  /** The one agent whom the change concerns; null: every agent. */
  scope: text('scope'),
  at: at('at').notNull().defaultNow(),
});

export const nodes = pgTable('nodes', {
  /** The agent's SPIFFE ID. */
  nodeId: text('node_id').primaryKey(),
  attestationType: text('attestation_type').notNull(),
  certSerial: text('cert_serial').notNull(),
  /** Still good for one renewal: the answer that carried the current one may have been lost. */
  previousCertSerial: text('previous_cert_serial'),
  expiry: at('expiry').notNull(),
  selectors: jsonb('selectors').$type<readonly string[]>().notNull(),
  canReattest: boolean('can_reattest').notNull(),
  isBanned: boolean('is_banned').notNull().default(false),
  attestedAt: at('attested_at').notNull().defaultNow(),
  lastSeenAt: at('last_seen_at').notNull().defaultNow(),
  agentVersion: text('agent_version').notNull().default(''),
  status: jsonb('status').$type<AgentStatus>(),
});

/** Which addresses are a node's. Only `confirmed` rows reach the directory; an address can be confirmed for one node only. */
export const nodeAddresses = pgTable(
  'node_addresses',
  {
    nodeId: text('node_id').notNull(),
    network: text('network').notNull().default('default'),
    address: text('address').notNull(),
    state: text('state', { enum: ['pending', 'confirmed'] }).notNull(),
    /** How it was confirmed: declared by an operator, or the server reached the node's own SVID there. */
    proof: text('proof', { enum: ['none', 'operator', 'reached'] })
      .notNull()
      .default('none'),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.nodeId, table.network, table.address] }),
    uniqueIndex('node_addresses_confirmed')
      .on(table.network, table.address)
      .where(sql`state = 'confirmed'`),
  ],
);

/** Join tokens, by the SHA-256 of the token: the token itself is shown once and not kept. */
export const joinTokens = pgTable('join_tokens', {
  tokenHash: text('token_hash').primaryKey(),
  /** The node's name, last segment of its SPIFFE ID. */
  name: text('name').notNull(),
  addresses: jsonb('addresses').$type<readonly string[]>().notNull(),
  expiresAt: at('expires_at').notNull(),
  usedAt: at('used_at'),
  createdBy: text('created_by').notNull(),
  createdAt: at('created_at').notNull().defaultNow(),
});

/** TPM hosts that may attest, by the SHA-256 of the endorsement key's public area as SubjectPublicKeyInfo DER. */
export const tpmHosts = pgTable(
  'tpm_hosts',
  {
    ekHash: text('ek_hash').primaryKey(),
    state: text('state', { enum: ['pending', 'approved', 'denied'] }).notNull(),
    name: text('name').notNull().default(''),
    /** Expected PCR values: PCR number to a list of accepted SHA-256 values in hexadecimal. */
    expectedPcrs: jsonb('expected_pcrs').$type<Readonly<Record<string, readonly string[]>>>().notNull(),
    addresses: jsonb('addresses').$type<readonly string[]>().notNull(),
    /** Whether a certificate of the EK was shown that chains to a configured manufacturer's root. */
    hasTrustedCertificate: boolean('has_trusted_certificate').notNull().default(false),
    decidedBy: text('decided_by'),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex('tpm_hosts_name')
      .on(table.name)
      .where(sql`name <> ''`),
  ],
);

export const registrationEntries = pgTable(
  'registration_entries',
  {
    entryId: uuid('entry_id').primaryKey(),
    spiffeId: text('spiffe_id').notNull(),
    parentId: text('parent_id').notNull(),
    /** Sorted, without repetition. */
    selectors: jsonb('selectors').$type<readonly string[]>().notNull(),
    /** SHA-256 of SPIFFE ID, parent and selectors, one a line: they are too long for an index. No two entries are the same in these. */
    grantHash: text('grant_hash').notNull(),
    ttlSeconds: integer('ttl_seconds').notNull(),
    federatesWith: text('federates_with').array().notNull(),
    dnsNames: text('dns_names').array().notNull(),
    hint: text('hint').notNull(),
    listeners: jsonb('listeners').$type<readonly Listener[]>().notNull(),
    revision: count('revision').notNull().default(0),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (table) => [
    index('registration_entries_parent').on(table.parentId),
    index('registration_entries_spiffe_id').on(table.spiffeId),
    uniqueIndex('registration_entries_same').on(table.grantHash),
  ],
);

/** Trust bundles that agents get: our own and, once federated, those of others. */
export const trustBundles = pgTable('trust_bundles', {
  trustDomain: text('trust_domain').primaryKey(),
  sequence: count('sequence').notNull(),
  refreshHintSeconds: integer('refresh_hint_seconds').notNull(),
  /** CA certificates, DER in base64. */
  x509Authorities: jsonb('x509_authorities').$type<readonly string[]>().notNull(),
  updatedAt: at('updated_at').notNull().defaultNow(),
});

/** Every SVID that was issued to an agent or for an entry and has not ended: what `GET /workloads/{id}/certificate` shows. */
export const issuedSvids = pgTable(
  'issued_svids',
  {
    serial: text('serial').primaryKey(),
    spiffeId: text('spiffe_id').notNull(),
    entryId: uuid('entry_id'),
    nodeId: text('node_id').notNull(),
    notBefore: at('not_before').notNull(),
    notAfter: at('not_after').notNull(),
    /** Leaf and intermediates, PEM. */
    chainPem: text('chain_pem').notNull(),
  },
  (table) => [
    index('issued_svids_spiffe_id').on(table.spiffeId, table.notAfter),
    index('issued_svids_not_after').on(table.notAfter),
    index('issued_svids_node').on(table.nodeId),
  ],
);

/** Content of policies as published. A version is never changed; roll-back activates an old one again. */
export const policyVersions = pgTable(
  'policy_versions',
  {
    target: text('target', { enum: ['mesh', 'admin'] }).notNull(),
    version: count('version').notNull(),
    /** File name to text, as submitted. */
    files: jsonb('files').$type<Readonly<Record<string, string>>>().notNull(),
    artifact: bytea('artifact').notNull(),
    digest: text('digest').notNull(),
    entrypoints: jsonb('entrypoints').$type<{ readonly allow: string; readonly egress?: string }>().notNull(),
    message: text('message').notNull(),
    createdBy: text('created_by').notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.target, table.version] }),
    index('policy_versions_digest').on(table.digest),
  ],
);

/** Which version was put in force when. The highest sequence of a target is in force. */
export const policyActivations = pgTable(
  'policy_activations',
  {
    target: text('target', { enum: ['mesh', 'admin'] }).notNull(),
    sequence: count('sequence').notNull(),
    version: count('version').notNull(),
    /** `signedPolicy` of the protocol, as sent to agents. */
    signed: jsonb('signed').$type<{ statement: string; signature: string; chain: string[] }>().notNull(),
    activatedBy: text('activated_by').notNull(),
    activatedAt: at('activated_at').notNull().defaultNow(),
  },
  (table) => [primaryKey({ columns: [table.target, table.sequence] })],
);

/** Access records as agents shipped them; the columns are taken out of `record` for the query. */
export const accessLog = pgTable(
  'access_log',
  {
    nodeId: text('node_id').notNull(),
    epoch: text('epoch').notNull(),
    sequence: count('sequence').notNull(),
    decisionId: text('decision_id').notNull(),
    ts: at('ts').notNull(),
    direction: text('direction').notNull(),
    /** Where the caller connected from, without its port. */
    sourceAddress: text('source_address'),
    callerSpiffeId: text('caller_spiffe_id'),
    targetSpiffeId: text('target_spiffe_id'),
    method: text('method'),
    path: text('path'),
    decision: text('decision').notNull(),
    /** It passed in audit mode; enforced, it would have been denied for `reason`. */
    wouldDeny: boolean('would_deny').notNull().default(false),
    /** Rules in audit that would have denied it. */
    rules: text('rules').array().notNull().default([]),
    reason: text('reason').notNull(),
    policyVersion: count('policy_version'),
    latencyUs: real('latency_us').notNull(),
    /** The exact text that the hash chain covers. */
    record: text('record').notNull(),
    hash: text('hash').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.nodeId, table.epoch, table.sequence] }),
    index('access_log_ts').on(table.ts),
    index('access_log_caller').on(table.callerSpiffeId, table.ts),
    index('access_log_target').on(table.targetSpiffeId, table.ts),
    index('access_log_decision_id').on(table.decisionId),
    index('access_log_would_deny')
      .on(table.targetSpiffeId, table.ts)
      .where(sql`would_deny`),
  ],
);

/** How far the spool of a node has been stored, and the hash that the next record must continue. */
export const accessCursors = pgTable(
  'access_cursors',
  {
    nodeId: text('node_id').notNull(),
    epoch: text('epoch').notNull(),
    sequence: count('sequence').notNull(),
    hash: text('hash').notNull(),
  },
  (table) => [primaryKey({ columns: [table.nodeId, table.epoch] })],
);

/** What operators did or were refused, attestation included. */
export const operatorLog = pgTable(
  'operator_log',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    ts: at('ts').notNull().defaultNow(),
    actor: text('actor').notNull(),
    action: text('action').notNull(),
    subject: text('subject').notNull(),
    decision: text('decision', { enum: ['allow', 'deny'] }).notNull(),
    outcome: text('outcome').notNull(),
    detail: jsonb('detail').$type<Readonly<Record<string, unknown>>>().notNull(),
  },
  (table) => [index('operator_log_ts').on(table.ts)],
);

export const operators = pgTable('operators', {
  name: text('name').primaryKey(),
  roles: text('roles').array().notNull(),
  certSerial: text('cert_serial').notNull(),
  notAfter: at('not_after').notNull(),
  isRevoked: boolean('is_revoked').notNull().default(false),
  createdAt: at('created_at').notNull().defaultNow(),
});

/** Who neither calls nor is called, whatever the policy says. What a quarantined node has of addresses and certificates is read when it is sent. */
export const quarantines = pgTable(
  'quarantines',
  {
    kind: text('kind', { enum: ['workload', 'node', 'segment'] }).notNull(),
    /** SPIFFE ID: of the workload, of the node's agent, or the one that the segment begins with. */
    subject: text('subject').notNull(),
    reason: text('reason').notNull(),
    /** When the server lifts it by itself; null: never. */
    until: at('until'),
    createdBy: text('created_by').notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (table) => [primaryKey({ columns: [table.kind, table.subject] })],
);

/** Which services are not enforced, and exceptions from that. What no row names is enforced. */
export const enforcementModes = pgTable('enforcement_modes', {
  /** A workload's SPIFFE ID, or one with `/*` behind it: all below it. */
  scope: text('scope').primaryKey(),
  mode: text('mode', { enum: ['enforce', 'audit'] }).notNull(),
  setBy: text('set_by').notNull(),
  setAt: at('set_at').notNull().defaultNow(),
});

/** Addresses that stand for every host on which a workload is registered. */
export const services = pgTable('services', {
  name: text('name').primaryKey(),
  spiffeId: text('spiffe_id').notNull(),
  /** Of the members' listeners. */
  port: integer('port').notNull(),
  addresses: jsonb('addresses').$type<readonly ServiceAddress[]>().notNull(),
  createdBy: text('created_by').notNull(),
  createdAt: at('created_at').notNull().defaultNow(),
});

/** Where hosts are, as operators say: before a host attests, too. */
export const nodePlaces = pgTable('node_places', {
  /** SPIFFE ID of the host's agent. */
  nodeId: text('node_id').primaryKey(),
  locality: text('locality').notNull(),
});
