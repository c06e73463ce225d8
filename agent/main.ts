import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { createOpaWasmLoader } from '../shared/policy/opa-wasm.ts';
import { systemClock } from '../shared/runtime/clock.ts';
import { CrowdTally } from '../shared/runtime/crowd-tally.ts';
import { createLog, type Log } from '../shared/runtime/log.ts';
import { createMetrics } from '../shared/runtime/metrics.ts';
import { startMetricsListener, startReadinessListener } from '../shared/runtime/metrics-listener.ts';
import { notifyReady } from '../shared/runtime/service-manager.ts';
import { Shutdown, type Running } from '../shared/runtime/shutdown.ts';
import { verifyPolicySignature } from '../shared/spiffe/policy-signer.ts';
import { startAdmin } from './admin/admin.ts';
import { AgentMetrics } from './admin/agent-metrics.ts';
import { startShipper } from './audit/shipper.ts';
import { Spool } from './audit/spool.ts';
import type { Capture } from './capture/capture.ts';
import { NFT_TABLE_NAME } from './capture/nft-rules.ts';
import { openCapture, type ChosenCapture } from './capture/open-capture.ts';
import { readAgentConfig, type AgentConfig } from './config.ts';
import { listOwnAddresses, OwnAddresses } from './directory/own-addresses.ts';
import { RegisteredDirectory } from './directory/registered-directory.ts';
import { DnsDomainCheck } from './egress/dns-domain-check.ts';
import { followAddresses } from './follow-addresses.ts';
import type { IdentityManager } from './identity/identity-manager.ts';
import { openIdentityManager, type OpenedIdentity } from './identity/open-identity-manager.ts';
import { openSealedDisk } from './key-store/sealed-disk.ts';
import type { SealedStore } from './key-store/sealed-store.ts';
import { descriptorReserve } from './native/descriptor-reserve.ts';
import { openHolderScanner } from './native/holder-scanner.ts';
import { watchAddresses } from './native/address-watch.ts';
import { readRulesetGeneration, watchTable } from './native/nftables.ts';
import { JoinTokenProver } from './node-attestation/join-token.ts';
import { TpmProver } from './node-attestation/tpm.ts';
import { openHolderFinder, type HolderFinderAdapters } from './open-holder-finder.ts';
import { openProver, type ProverAdapters } from './open-prover.ts';
import { withAuditMode } from './policy/audit-mode.ts';
import { createAuthorizer } from './policy/authorize.ts';
import { followPolicy } from './policy/follow-policy.ts';
import { PolicyHolder } from './policy/policy-holder.ts';
import { findSteeredWay } from './proxy/captured-way.ts';
import { startProxy } from './proxy/proxy.ts';
import { HeldQuarantine, type Quarantine } from './quarantine/quarantine.ts';
import { RecentDenials } from './proxy/recent-denials.ts';
import { reportStatus } from './report-status.ts';
import { RunningParts } from './running-parts.ts';
import { createMarkedDial } from './server-link/marked-dial.ts';
import { startCapture } from './start-capture.ts';
import { tellOfDescriptors } from './tell-of-descriptors.ts';
import { isDigestWanted } from './workload-attestation/earned-entries.ts';
import { createKernelHolderFinder } from './workload-attestation/kernel-holder-finder.ts';
import { createProcessIdentifier } from './workload-attestation/process-identifier.ts';
import type { ProcessIdentifier } from './workload-attestation/process-identity.ts';
import { createThreadHolderFinder } from './workload-attestation/thread-holder-finder.ts';
import { UnixAttestor } from './workload-attestation/unix.ts';
import { DEFAULT_WORKLOAD_API_LIMITS, startWorkloadApi } from './workload-api/workload-api.ts';

/** What the process gives to the role. */
export interface AgentRuntime {
  readonly configPath: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly writeLog: (line: string) => void;
}

/**
 * Starts the agent; what it returns stops it in reverse. Traffic is captured before the host has attested, and refused until then. Rejects when any part cannot
 * start, or when the host is refused for good.
 */
export async function startAgent(runtime: AgentRuntime): Promise<Running> {
  const config = await readAgentConfig(runtime.configPath, runtime.environment);
  const log = createLog({ level: config.logLevel, nowMs: () => Date.now(), write: runtime.writeLog });
  const agent = new AgentStart(config, runtime, log);
  try {
    await agent.run();
  } catch (error) {
    await agent.shutdown.stop();
    throw error;
  }
  await notifyReady(runtime.environment['NOTIFY_SOCKET']);
  return agent.shutdown;
}

const clock = systemClock;
const OWN_UID = process.getuid?.() ?? 0;

const PROVERS: ProverAdapters = {
  joinToken: (token) => new JoinTokenProver(token),
  tpm: (options) => new TpmProver({ ...options, random: (length) => randomBytes(length) }),
};

const HOLDER_FINDERS: HolderFinderAdapters = {
  openScanner: openHolderScanner,
  kernel: createKernelHolderFinder,
  thread: createThreadHolderFinder,
};

/** The parts in the order in which they depend on each other. */
class AgentStart {
  readonly shutdown: Shutdown;
  readonly #config: AgentConfig;
  readonly #runtime: AgentRuntime;
  readonly #log: Log;
  readonly #parts: RunningParts;
  readonly #metrics: AgentMetrics;
  readonly #denials = new RecentDenials();
  readonly #addresses = new OwnAddresses(clock);

  constructor(config: AgentConfig, runtime: AgentRuntime, log: Log) {
    const { version } = runtime;
    const startedAtMs = clock.nowMs();
    this.shutdown = new Shutdown(log);
    this.#config = config;
    this.#runtime = runtime;
    this.#log = log;
    this.#parts = new RunningParts({
      ...config,
      version,
      startedAtMs,
      keepsCapture: config.capture.isEnabled,
      crowd: new CrowdTally(clock),
    });
    tellOfDescriptors(descriptorReserve(), { clock, log });
    const registry = createMetrics({ version, role: 'agent', startedAtMs });
    this.#metrics = new AgentMetrics(registry, { state: this.#parts, clock });
    if (config.metrics !== undefined) this.#add('metrics', startMetricsListener(config.metrics, registry));
    if (config.readiness !== undefined)
      this.#add('readiness', startReadinessListener(config.readiness, this.#parts));
  }

  async run(): Promise<void> {
    const { dataDirectory, sealKeyFile, capture: captureConfig } = this.#config;
    const chosen = openCapture({
      ...captureConfig.choice,
      nft: { rulesFile: captureConfig.rulesFile, readGeneration: readRulesetGeneration },
      ownerUid: OWN_UID,
      ownAddresses: listOwnAddresses,
    });
    const { capture } = chosen;
    await mkdir(dataDirectory, { recursive: true, mode: 0o700 });
    await this.#startAdmin(capture);
    const store = await openSealedDisk({
      directory: dataDirectory,
      keyFile: sealKeyFile,
      credentialsDirectory: this.#runtime.environment['CREDENTIALS_DIRECTORY'],
    });
    const spool = await this.#openSpool();
    const identity = await this.#openIdentity(store);
    const { manager, api } = identity;
    const quarantine = this.#holdQuarantine(manager);
    const holder = await this.#holdPolicy(identity, store);
    const processes = this.#identifyProcesses(manager);
    const directory = this.#openDirectory(manager);
    this.#startProxy({ manager, holder, processes, spool, directory, quarantine, chosen });
    await this.#keepCapture(chosen, directory);
    await this.#serveWorkloads({ manager, processes, quarantine });
    await manager.start();
    this.#add('identity', manager);
    const send = api.sendAudit.bind(api);
    this.#add('shipper', startShipper({ spool, send, clock, random: Math.random, log: this.#log }));
    this.#reportStatus(identity, holder);
    this.#log.info('agent_ready', {
      agentId: manager.agentSvid.current.spiffeId,
      version: this.#runtime.version,
    });
  }

  async #startAdmin(capture: Capture): Promise<void> {
    const admin = await startAdmin({
      path: this.#config.sockets.admin,
      clock,
      state: this.#parts,
      denials: this.#denials,
      capture,
      agentUid: OWN_UID,
      log: this.#log,
    });
    this.#add('admin', admin);
  }

  async #openSpool(): Promise<Spool> {
    const { directory, maxBytes, durability } = this.#config.audit;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const spool = new Spool({ directory, maxBytes, durability, clock, log: this.#log });
    this.shutdown.add('spool', async () => await spool.close());
    this.#parts.queue = spool;
    return spool;
  }

  async #openIdentity(store: SealedStore): Promise<OpenedIdentity> {
    const { trustDomain, servers, trust, capture, attestation } = this.#config;
    const identity = await openIdentityManager({
      trustDomain,
      servers,
      trust,
      dial: createMarkedDial(capture.mark),
      store,
      prover: await openProver(attestation, { adapters: PROVERS, clock }),
      agentVersion: this.#runtime.version,
      addresses: () => this.#claims(),
      clock,
      random: Math.random,
      log: this.#log,
      observer: this.#metrics,
    });
    this.shutdown.add('server link', async () => await identity.close());
    this.#parts.manager = identity.manager;
    this.#parts.link = identity;
    return identity;
  }

  /** First of all who follow what the server says: nothing of the same message is taken before it. */
  #holdQuarantine(manager: IdentityManager): HeldQuarantine {
    const quarantine = new HeldQuarantine({ told: manager.sync, ownNode: () => manager.nodeId });
    this.shutdown.add('quarantine', () => quarantine.stop());
    this.#parts.quarantine = quarantine;
    return quarantine;
  }

  /** The last good policy is in force before anything is decided; a new one is taken as soon as the server tells of it. */
  async #holdPolicy({ manager, api }: OpenedIdentity, store: SealedStore): Promise<PolicyHolder> {
    const holder = new PolicyHolder({
      trustDomain: this.#config.trustDomain,
      bundle: () => manager.ownBundle,
      verifySignature: verifyPolicySignature,
      loader: createOpaWasmLoader(),
      fetchArtifact: async (digest) => await api.fetchArtifact(digest),
      store,
      clock,
      random: Math.random,
      log: this.#log,
      observer: this.#metrics,
    });
    await holder.restore();
    const unfollow = followPolicy(manager.sync, holder);
    this.shutdown.add('policy', () => {
      unfollow();
      holder.stop();
    });
    this.#parts.holder = holder;
    return holder;
  }

  #identifyProcesses(manager: IdentityManager): ProcessIdentifier {
    const finder = openHolderFinder(HOLDER_FINDERS, { clock, log: this.#log });
    this.#parts.finder = finder;
    this.shutdown.add('process finder', () => finder.close());
    const unix = new UnixAttestor({
      isDigestWanted: (known) => isDigestWanted(manager.sync.current.entries.values(), known),
      clock,
      log: this.#log,
    });
    return createProcessIdentifier({
      entries: manager.entries,
      attestors: [unix],
      finder,
      clock,
      log: this.#log,
    });
  }

  #openDirectory(manager: IdentityManager): RegisteredDirectory {
    const directory = new RegisteredDirectory({
      records: manager.directory,
      entries: manager.entries,
      isOwnAddress: (address) => this.#addresses.has(address),
      log: this.#log,
    });
    this.shutdown.add('directory', () => directory.stop());
    this.#parts.directory = directory;
    return directory;
  }

  #startProxy(parts: {
    readonly manager: IdentityManager;
    readonly holder: PolicyHolder;
    readonly processes: ProcessIdentifier;
    readonly spool: Spool;
    readonly directory: RegisteredDirectory;
    readonly quarantine: Quarantine;
    readonly chosen: ChosenCapture;
  }): void {
    const { manager, holder, processes, spool, directory, chosen } = parts;
    const { ports, forwards, mesh, capture, limits } = this.#config;
    const proxy = startProxy({
      ports,
      forwards,
      dialerLimits: {
        ...(mesh.reusesConnections ? {} : { maxIdle: 0 }),
        ...(mesh.resumesSessions ? {} : { maxTickets: 0 }),
      },
      listenerLimits: {
        // Those that carry nothing at the moment are among them.
        maxConnections: 2 * limits.connections,
        maxConnectionsPerPeer: limits.connectionsPerHost,
      },
      ...(chosen.capture.backend === 'nftables'
        ? {}
        : { findOutboundWay: (socket) => findSteeredWay(socket, chosen.findRecord) }),
      mark: capture.mark,
      maxConnections: limits.connections,
      maxConnectionsPerHost: limits.connectionsPerHost,
      identities: manager,
      directory,
      processes,
      quarantine: parts.quarantine,
      authorizer: withAuditMode(
        createAuthorizer({ policy: holder.policy, clock, log: this.#log }),
        manager.enforcement,
      ),
      domains: new DnsDomainCheck({ resolvers: this.#config.egress.resolvers, clock }),
      recorder: spool,
      denials: this.#denials,
      observer: this.#metrics,
      clock,
      random: Math.random,
      newId: () => randomUUID(),
      log: this.#log,
    });
    this.#add('proxy', proxy);
    this.#parts.proxy = proxy;
  }

  async #keepCapture(chosen: ChosenCapture, directory: RegisteredDirectory): Promise<void> {
    const { capture, whyNot } = chosen;
    if (!this.#config.capture.isEnabled) return this.#log.warn('capture_disabled');
    if (whyNot !== undefined) this.#log.info('capture_not_by_ebpf', { error: whyNot });
    const keeper = await startCapture({
      config: this.#config,
      sshConnection: this.#runtime.environment['SSH_CONNECTION'],
      agentUid: OWN_UID,
      capture,
      openRulesWatch: async (listeners) => await watchTable({ table: NFT_TABLE_NAME, ...listeners }),
      directory,
      clock,
      log: this.#log,
    });
    this.#add('capture', keeper);
    this.#parts.keeper = keeper;
    if (capture.backend !== 'ebpf') return;
    const onChange = chosen.followAddresses;
    this.#add('addresses', await followAddresses({ watch: watchAddresses, onChange, clock, log: this.#log }));
  }

  async #serveWorkloads(parts: {
    readonly manager: IdentityManager;
    readonly processes: ProcessIdentifier;
    readonly quarantine: Quarantine;
  }): Promise<void> {
    const { manager, processes, quarantine } = parts;
    const api = await startWorkloadApi({
      path: this.#config.sockets.workloadApi,
      identities: manager,
      processes,
      quarantine,
      clock,
      log: this.#log,
      limits: { ...DEFAULT_WORKLOAD_API_LIMITS, ...this.#config.limits.workloadApi },
    });
    this.#add('workload api', api);
    this.#parts.api = api;
  }

  #reportStatus(identity: OpenedIdentity, holder: PolicyHolder): void {
    const { version } = this.#runtime;
    const addresses = (): readonly string[] => this.#claims();
    this.#add(
      'status reports',
      reportStatus({ version, identity, holder, addresses, clock, log: this.#log }),
    );
  }

  #claims(): readonly string[] {
    return this.#config.addresses ?? this.#addresses.claimable();
  }

  #add(name: string, part: Running): void {
    this.shutdown.add(name, async () => await part.stop());
  }
}
