import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { createOpaWasmLoader } from '../shared/policy/opa-wasm.ts';
import type { WireBundle } from '../shared/protocol/attestation.ts';
import type { SignedPolicy } from '../shared/protocol/policy-statement.ts';
import { systemClock } from '../shared/runtime/clock.ts';
import { CrowdTally } from '../shared/runtime/crowd-tally.ts';
import { createLog, type Log } from '../shared/runtime/log.ts';
import { notifyReady } from '../shared/runtime/service-manager.ts';
import { Shutdown, type Running } from '../shared/runtime/shutdown.ts';
import { verifyPolicySignature } from '../shared/spiffe/policy-signer.ts';
import { pathOf } from '../shared/spiffe/spiffe-id.ts';
import { AgentCertificates } from './agents/agent-certificates.ts';
import { IssuedSvids } from './agents/issued-svids.ts';
import { JoinTokens } from './agents/join-tokens.ts';
import { NodeAddresses } from './agents/node-addresses.ts';
import { Nodes } from './agents/nodes.ts';
import { TpmHosts } from './agents/tpm-hosts.ts';
import { AccessLog } from './audit/access-log.ts';
import { OperatorLog } from './audit/operator-log.ts';
import { openAuthority } from './ca/open-authority.ts';
import type { OnlineAuthority } from './ca/online-authority.ts';
import { startServerCertificate } from './ca/server-certificate.ts';
import type { ServerConfig } from './config.ts';
import { loadServerConfig, openConfiguredDatastore, type ConfigLocation } from './load-config.ts';
import type { Datastore } from './datastore/datastore.ts';
import { WatchedDatastore } from './datastore/watched-datastore.ts';
import { ClockWatch } from './health/clock-watch.ts';
import { readHealth, startServerMetrics, type ServerState } from './health/health.ts';
import { buildAgentApp } from './http/agent-app.ts';
import type { FindPeerCredentials } from './http/listeners/unix-listener.ts';
import { Enforcements } from './enforcement/enforcement.ts';
import { EnforcementReports } from './enforcement/enforcement-reports.ts';
import type { TurnedAway } from './http/listeners/connection-guard.ts';
import { startTlsListener } from './http/listeners/tls-listener.ts';
import { startUnixListener } from './http/listeners/unix-listener.ts';
import { DEFAULT_LIMITS } from './http/limits.ts';
import { buildOperatorApp, type OperatorCapabilities } from './http/operator-app.ts';
import { openEncryptedDisk } from './key-manager/encrypted-disk.ts';
import { startMaintenance } from './maintenance/maintenance.ts';
import {
  parseManufacturerCertificates,
  type ManufacturerCertificates,
} from './node-attestation/ek-certificate.ts';
import { JoinTokenAttestor } from './node-attestation/join-token.ts';
import { NodeAttestation } from './node-attestation/node-attestation.ts';
import type { NodeAttestor } from './node-attestation/node-attestor.ts';
import { AttestationSessions } from './node-attestation/session.ts';
import { TpmAttestor } from './node-attestation/tpm.ts';
import { Operators } from './operators/operators.ts';
import { AdminPolicy } from './policy-admin/admin-policy.ts';
import { toAdminRequest } from './policy-admin/admin-request.ts';
import { findOpa } from './policy-admin/find-opa.ts';
import { OpaCompiler } from './policy-admin/opa.ts';
import { PolicyAdmin } from './policy-admin/policy-admin.ts';
import { signPoliciesAnew } from './policy-admin/sign-anew.ts';
import { startQuarantineExpiry } from './quarantine/quarantine-expiry.ts';
import { Quarantines } from './quarantine/quarantines.ts';
import { Registration } from './registration/registration.ts';
import { NodePlaces } from './services/node-places.ts';
import { Services } from './services/services.ts';
import { SyncSource } from './sync/sync.ts';
import { storeTrustBundle } from './sync/trust-bundles.ts';

/** What the process gives to the role. */
export interface ServerRuntime extends ConfigLocation {
  readonly version: string;
  /** SO_PEERCRED of a unix socket. */
  readonly findPeerCredentials: FindPeerCredentials;
  readonly writeLog: (line: string) => void;
}

/** Starts the server; what it returns stops it, listeners first. Throws when any part of it cannot start. */
export async function startServer(runtime: ServerRuntime): Promise<Running> {
  const config = await loadServerConfig(runtime);
  const log = createLog({ level: config.logLevel, nowMs: () => Date.now(), write: runtime.writeLog });
  const shutdown = new Shutdown(log);
  try {
    await startParts({ config, runtime, log, shutdown });
  } catch (error) {
    await shutdown.stop();
    throw error;
  }
  await notifyReady(runtime.environment['NOTIFY_SOCKET']);
  const { agents, operators, socket } = config.listen;
  log.info('server_ready', {
    version: runtime.version,
    trust_domain: config.trustDomain,
    agents,
    operators,
    socket,
  });
  return shutdown;
}

interface Start {
  readonly config: ServerConfig;
  readonly runtime: ServerRuntime;
  readonly log: Log;
  readonly shutdown: Shutdown;
}

const clock = systemClock;
const random = (): number => Math.random();
const secureRandom = (length: number): Uint8Array => randomBytes(length);

async function startParts(start: Start): Promise<void> {
  const { config, log, shutdown } = start;
  const opa = findOpa(config.policy.opa, start.runtime.environment['PATH']);
  const datastore = new WatchedDatastore(await openConfiguredDatastore(config, log), log);
  shutdown.add('datastore', async () => await datastore.close());
  const keys = await openEncryptedDisk(config.keys);
  const { caDirectory: directory, trustDomain } = config;
  const authority = await openAuthority({ directory, keys, trustDomain, clock, random: secureRandom, log });
  const bundle = await storeTrustBundle(datastore, authority.bundle.current);
  const sync = new SyncSource({ datastore, clock, log, random });
  await sync.start();
  shutdown.add('sync', async () => await sync.stop());
  await mkdir(config.policy.temporaryDirectory, { recursive: true, mode: 0o700 });
  const compiler = new OpaCompiler({ executable: opa, temporaryFolder: config.policy.temporaryDirectory });
  const verifySignature = (signed: SignedPolicy): void =>
    verifyPolicySignature(signed, authority.bundle.current, clock.nowMs());
  const policies = new PolicyAdmin({ datastore, compiler, authority, verifySignature, trustDomain, clock });
  await signPoliciesAnew(policies, log);
  const clockWatch = new ClockWatch({ clock, log });
  shutdown.add('clock', async () => await clockWatch.stop());
  const crowds = {
    agents: new CrowdTally<TurnedAway>(clock),
    operators: new CrowdTally<TurnedAway>(clock),
    socket: new CrowdTally<TurnedAway>(clock),
  };
  const state = buildState(start, { datastore, authority, sync, clockWatch, crowds });
  const metrics = startServerMetrics(config.metrics, state);
  shutdown.add('metrics', async () => await metrics?.stop());
  const capabilities = buildCapabilities(start, { datastore, authority, policies, state });
  const maintenance = startMaintenance({ ...capabilities, retentionMs: config.auditRetentionMs, clock, log });
  shutdown.add('maintenance', async () => await maintenance.stop());
  const expiry = startQuarantineExpiry({ ...capabilities, clock, log });
  shutdown.add('quarantine expiry', async () => await expiry.stop());
  await listen(start, { capabilities, sync, compiler, bundle, crowds, clockWatch });
}

function buildState(
  { config, runtime }: Start,
  parts: Pick<ServerState, 'datastore' | 'authority' | 'sync' | 'clockWatch' | 'crowds'>,
): ServerState {
  const { trustDomain, dataDirectory, database } = config;
  const isEmbedded = database.url === undefined && database.urlFile === undefined;
  const databaseKind = isEmbedded ? 'pglite' : 'postgresql';
  return { ...parts, version: runtime.version, trustDomain, databaseKind, dataDirectory, clock };
}

interface Core {
  readonly datastore: Datastore;
  readonly authority: OnlineAuthority;
  readonly policies: PolicyAdmin;
  readonly state: ServerState;
}

function buildCapabilities({ config, log }: Start, core: Core): OperatorCapabilities {
  const { datastore, authority, policies, state } = core;
  const { trustDomain } = config;
  const enforcements = new Enforcements({ datastore, clock, trustDomain });
  const reports = new EnforcementReports({ datastore, enforcements, clock });
  return {
    datastore,
    authority,
    policies,
    trustDomain,
    registration: new Registration({ datastore, clock, trustDomain }),
    tokens: new JoinTokens({ datastore, clock, trustDomain, randomBytes: secureRandom }),
    tpmHosts: new TpmHosts(datastore),
    nodes: new Nodes({ datastore, clock, log }),
    nodeAddresses: new NodeAddresses(datastore),
    issued: new IssuedSvids({ datastore, clock }),
    accessLog: new AccessLog({ datastore, log }),
    operatorLog: new OperatorLog({ datastore, clock }),
    operators: new Operators({ datastore, clock }),
    quarantines: new Quarantines({ datastore, clock }),
    services: new Services({ datastore, clock, trustDomain }),
    nodePlaces: new NodePlaces({ datastore, trustDomain }),
    enforcements,
    reportEnforcement: async (scope, sinceMs) => await reports.report(scope, sinceMs),
    rootKeySha256: () => authority.rootKeySha256,
    temporaryDirectory: config.policy.temporaryDirectory,
    readHealth: async () => await readHealth(state),
  };
}

interface Served {
  readonly capabilities: OperatorCapabilities;
  readonly sync: SyncSource;
  readonly compiler: OpaCompiler;
  readonly bundle: WireBundle;
  readonly crowds: ServerState['crowds'];
  readonly clockWatch: ClockWatch;
}

async function listen(start: Start, served: Served): Promise<void> {
  const { config, log, shutdown } = start;
  const { crowds } = served;
  const { authority } = served.capabilities;
  const certificate = await startServerCertificate({
    authority,
    trustDomain: config.trustDomain,
    names: config.listen.names,
    clock,
    random,
    log,
  });
  shutdown.add('certificate', async () => await certificate.stop());
  const draining = new AbortController();
  const common = { limits: DEFAULT_LIMITS, clock, log };
  const operatorApp = await buildOperators(start, served, draining.signal);
  const agentApp = await buildAgents(start, served, draining.signal);
  const socket = await startUnixListener({
    ...common,
    crowd: crowds.socket,
    path: config.listen.socket,
    findPeerCredentials: start.runtime.findPeerCredentials,
    fetch: operatorApp.fetch,
  });
  shutdown.add('socket', async () => await socket.stop());
  if (config.listen.operators !== undefined) {
    const operators = await startTlsListener({
      ...common,
      crowd: crowds.operators,
      address: config.listen.operators,
      certificate,
      fetch: operatorApp.fetch,
    });
    shutdown.add('operators', async () => await operators.stop());
  }
  const agents = await startTlsListener({
    ...common,
    crowd: crowds.agents,
    address: config.listen.agents,
    certificate,
    fetch: agentApp.fetch,
  });
  shutdown.add('agents', async () => await agents.stop());
  shutdown.add('streams', () => draining.abort());
}

async function buildAgents({ config, log }: Start, served: Served, draining: AbortSignal) {
  const { capabilities, sync } = served;
  const { authority, nodes, issued, registration, policies, accessLog, quarantines } = capabilities;
  const bundle = (): WireBundle => served.bundle;
  const { trustDomain, agentTtlSeconds } = config;
  const attestation = new NodeAttestation({
    attestors: await buildAttestors(config, capabilities),
    sessions: new AttestationSessions({ clock, random: secureRandom }),
    authority,
    nodes,
    issued,
    bundle,
    trustDomain,
    agentTtlSeconds,
    log,
  });
  return buildAgentApp({
    attestation,
    certificates: new AgentCertificates({
      authority,
      nodes,
      registration,
      issued,
      quarantines,
      agentTtlSeconds,
    }),
    verification: { bundle: authority.bundle, clock },
    requireAgent: async (nodeId, serial) => void (await nodes.authenticate(nodeId, serial)),
    sync,
    policies,
    accessLog,
    nodes,
    compareClocks: (nodeId, aheadMs) => served.clockWatch.compare(nodeId, aheadMs),
    bundle,
    limits: DEFAULT_LIMITS,
    clock,
    log,
    draining,
  });
}

async function buildAttestors(
  config: ServerConfig,
  capabilities: OperatorCapabilities,
): Promise<readonly NodeAttestor[]> {
  const tpm = new TpmAttestor({
    hosts: capabilities.tpmHosts,
    random: secureRandom,
    clock,
    pcrs: config.tpm.pcrs,
    manufacturers: await readManufacturers(config),
    isEkCertificateRequired: config.tpm.isCertificateRequired,
  });
  return [new JoinTokenAttestor(capabilities.tokens), tpm];
}

async function readManufacturers({ tpm }: ServerConfig): Promise<ManufacturerCertificates> {
  const read = async (path: string | undefined): Promise<string> =>
    path === undefined ? '' : await readFile(path, 'utf8');
  return parseManufacturerCertificates({
    roots: await read(tpm.rootsFile),
    intermediates: await read(tpm.intermediatesFile),
  });
}

async function buildOperators({ config, runtime, log }: Start, served: Served, draining: AbortSignal) {
  const { capabilities, compiler } = served;
  const { datastore, authority, operators } = capabilities;
  const adminPolicy = new AdminPolicy({
    loader: createOpaWasmLoader(),
    bundle: authority.bundle,
    verifySignature: verifyPolicySignature,
    datastore,
    compiler,
    trustDomain: config.trustDomain,
    clock,
  });
  return await buildOperatorApp({
    capabilities,
    verification: { bundle: authority.bundle, clock },
    findOperator: async (spiffeId, serial) =>
      await operators.findInForce(pathOf(spiffeId).split('/').at(-1) ?? '', serial),
    decide: async (question) => await adminPolicy.decide(toAdminRequest(question)),
    version: runtime.version,
    limits: DEFAULT_LIMITS,
    clock,
    log,
    draining,
  });
}
