import { mkdir, readFile } from 'node:fs/promises';
import { createOpaWasmLoader } from '../shared/policy/opa-wasm.ts';
import type { SignedPolicy } from '../shared/protocol/policy-statement.ts';
import { CrowdTally } from '../shared/runtime/crowd-tally.ts';
import { createLog } from '../shared/runtime/log.ts';
import { notifyReady } from '../shared/runtime/service-manager.ts';
import { Shutdown, type Running } from '../shared/runtime/shutdown.ts';
import { verifyPolicySignature } from '../shared/spiffe/policy-signer.ts';
import { RecordBudget } from './audit/record-budget.ts';
import { openAuthority } from './ca/open-authority.ts';
import type { ServerConfig } from './config.ts';
import { loadServerConfig, openConfiguredDatastore } from './load-config.ts';
import { WatchedDatastore } from './datastore/watched-datastore.ts';
import { ClockWatch } from './health/clock-watch.ts';
import { startServerMetrics } from './health/health.ts';
import type { TurnedAway } from './http/listeners/connection-guard.ts';
import { type OperatorCapabilities } from './http/operator-app.ts';
import { openEncryptedDisk } from './key-manager/encrypted-disk.ts';
import { startMaintenance } from './maintenance/maintenance.ts';
import {
  parseManufacturerCertificates,
  type ManufacturerCertificates,
} from './node-attestation/ek-certificate.ts';
import { JoinTokenAttestor } from './node-attestation/join-token.ts';
import type { NodeAttestor } from './node-attestation/node-attestor.ts';
import { TpmAttestor } from './node-attestation/tpm.ts';
import { findOpa } from './policy-admin/find-opa.ts';
import { OpaCompiler } from './policy-admin/opa.ts';
import { PolicyAdmin } from './policy-admin/policy-admin.ts';
import { signPoliciesAnew } from './policy-admin/sign-anew.ts';
import { startQuarantineExpiry } from './quarantine/quarantine-expiry.ts';
import { SyncSource } from './sync/sync.ts';
import { storeTrustBundle } from './sync/trust-bundles.ts';
import { buildCapabilities, buildState } from './composition/capabilities.ts';
import { listen } from './composition/listen.ts';
import { clock, random, secureRandom, type ServerRuntime, type Start } from './composition/start.ts';

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
  const budget = new RecordBudget({ rates: config.recordRates, clock, log });
  const state = buildState(start, { datastore, authority, sync, clockWatch, crowds, budget });
  const metrics = startServerMetrics(config.metrics, state);
  shutdown.add('metrics', async () => await metrics?.stop());
  const capabilities = buildCapabilities(start, { datastore, authority, policies, state });
  const maintenance = startMaintenance({ ...capabilities, retentionMs: config.auditRetentionMs, clock, log });
  shutdown.add('maintenance', async () => await maintenance.stop());
  const expiry = startQuarantineExpiry({ ...capabilities, clock, log });
  shutdown.add('quarantine expiry', async () => await expiry.stop());
  const attestors = await buildAttestors(config, capabilities);
  const loader = createOpaWasmLoader();
  await listen(start, {
    capabilities,
    attestors,
    sync,
    compiler,
    loader,
    bundle,
    authority,
    crowds,
    clockWatch,
    budget,
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
