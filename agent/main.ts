import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { PicketError } from '../shared/errors/errors.ts';
import { createOpaWasmLoader } from '../shared/policy/opa-wasm.ts';
import { systemClock } from '../shared/runtime/clock.ts';
import { giveBackMemory } from '../shared/runtime/give-back-memory.ts';
import { createLog } from '../shared/runtime/log.ts';
import { notifyReady } from '../shared/runtime/service-manager.ts';
import type { Admin } from './admin/admin.ts';
import type { KeptCapture } from './capture/kept-capture.ts';
import { NFT_TABLE_NAME } from './capture/nft-rules.ts';
import { openCapture, type ChosenCapture } from './capture/open-capture.ts';
import { AgentBase } from './composition/agent-base.ts';
import type { AgentIncumbentOptions } from './composition/agent-incumbent.ts';
import type { AgentRuntime, RunningAgent } from './composition/agent-runtime.ts';
import { answerPeople } from './composition/answer-people.ts';
import { captureHost, captureNamespaces } from './composition/capture-host.ts';
import type { LeavingSettings } from './composition/data-path.ts';
import { openKnowledge, type Knowledge } from './composition/open-knowledge.ts';
import type { IdentifierAdapters } from './composition/open-process-identifier.ts';
import type { ProverAdapters } from './composition/open-prover.ts';
import { reportStatus } from './composition/report-status.ts';
import { serveWorkloads } from './composition/serve-workloads.ts';
import { shipLeftOvers } from './composition/ship-left-overs.ts';
import { prepareHere } from './composition/start-here.ts';
import { prepareInWorkers } from './composition/start-workers.ts';
import { tellOfDescriptors } from './composition/tell-of-descriptors.ts';
import type { RunningTraffic, Traffic } from './composition/traffic.ts';
import { readAgentConfig, type AgentConfig } from './config/config.ts';
import { listOwnAddresses } from './directory/own-addresses.ts';
import { readAuthorities } from './egress/authorities.ts';
import { InspectionAuthority } from './inspection/inspection-authority.ts';
import { readInspection } from './inspection/read-inspection.ts';
import { Predecessor } from './handover/predecessor.ts';
import type { IdentityManager } from './identity/identity-manager.ts';
import { HeldBackStore } from './key-store/held-back-store.ts';
import { openSealedDisk } from './key-store/sealed-disk.ts';
import type { NamespaceKeeper } from './namespaces/namespace-keeper.ts';
import { descriptorReserve } from './native/descriptor-reserve.ts';
import { openHolderScanner } from './native/holder-scanner.ts';
import { countElementTransactions } from './native/nftables-elements.ts';
import { openTableJournal, readRulesetGeneration } from './native/nftables.ts';
import { JoinTokenProver } from './node-attestation/join-token.ts';
import { TpmProver } from './node-attestation/tpm.ts';
import { createKernelHolderFinder } from './workload-attestation/kernel-holder-finder.ts';
import { createThreadHolderFinder } from './workload-attestation/thread-holder-finder.ts';
import { NetworkNamespaceAttestor } from './workload-attestation/netns.ts';
import { UnixAttestor } from './workload-attestation/unix.ts';

/**
 * Starts the agent; what it returns stops it in reverse. With a channel it takes over from the agent at the other end, and rejects with that one serving as before. Traffic is captured before the host has attested, and refused until then. Rejects when any part cannot
 * start, or when the host is refused for good.
 */
export async function startAgent(runtime: AgentRuntime): Promise<RunningAgent> {
  const predecessor = runtime.channel && new Predecessor(runtime.channel, clock);
  const config = await readConfig(runtime, predecessor);
  const log = createLog({ level: config.logLevel, nowMs: () => Date.now(), write: runtime.writeLog });
  tellOfDescriptors(descriptorReserve(), { clock, log });
  const loader = createOpaWasmLoader();
  const base = new AgentBase({ config, runtime, predecessor, loader, uid: OWN_UID, clock, log });
  const agent = new AgentStart(base);
  try {
    await agent.run();
  } catch (error) {
    await agent.giveUp(error);
    throw error;
  }
  return { ended: agent.ended, stop: async () => await base.shutdown.stop() };
}

async function readConfig(
  { configPath, environment }: AgentRuntime,
  predecessor: Predecessor | undefined,
): Promise<AgentConfig> {
  try {
    return await readAgentConfig(configPath, environment);
  } catch (error) {
    predecessor?.failed(error);
    throw error;
  }
}

const clock = systemClock;
/** How long a successor waits for the server before it goes on with what its predecessor wrote down, in milliseconds. */
const HEAR_SERVER_MS = 5000;
const LOOK_EVERY_MS = 20;
const OWN_UID = process.getuid?.() ?? 0;

const PROVERS: ProverAdapters = {
  joinToken: (token) => new JoinTokenProver(token),
  tpm: (options) => new TpmProver({ ...options, random: (length) => randomBytes(length) }),
};

const IDENTIFIERS: IdentifierAdapters = {
  unix: (options) => new UnixAttestor(options),
  netns: (findName) => new NetworkNamespaceAttestor(findName),
  openScanner: openHolderScanner,
  kernel: createKernelHolderFinder,
  thread: createThreadHolderFinder,
};

/** What the configuration makes of this host. */
interface HostSettings {
  readonly chosen: ChosenCapture;
  readonly leaving: LeavingSettings;
}

/** An agent that serves. */
interface Serving extends Pick<AgentIncumbentOptions, 'store' | 'rules'> {
  readonly known: Knowledge;
  readonly running: RunningTraffic;
}

/** The parts in the order in which they depend on each other. */
class AgentStart {
  readonly #base: AgentBase;
  readonly #ended = Promise.withResolvers<void>();
  #admin: Admin | undefined;

  constructor(base: AgentBase) {
    this.#base = base;
  }

  /** Resolves once another process has taken over, and what was open has ended. Rejects where this process may not serve after all. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  async run(): Promise<void> {
    const { predecessor, runtime, log } = this.#base;
    const manager = await (predecessor === undefined ? this.#begin() : this.#takeOver(predecessor));
    log.info('agent_ready', { agentId: manager.agentSvid.current.spiffeId, version: runtime.version });
  }

  /** As the only agent of the host: people are answered first, traffic is captured before the server is heard, and refused until then. */
  async #begin(): Promise<IdentityManager> {
    const base = this.#base;
    const settings = await this.#readSettings();
    const { chosen } = settings;
    this.#admin = await answerPeople(base, chosen.capture);
    const { store, known } = await this.#openKnowledge();
    const { manager, directory } = known;
    const traffic = await this.#prepareTraffic(known, settings);
    const running = await traffic.start();
    const capture = await captureHost(base, { chosen, directory });
    const namespaces = await captureNamespaces(base, directory);
    await namespaces?.listen(running.listenIn);
    await serveWorkloads(base, known);
    await manager.start();
    base.add('identity', manager);
    this.#goOn({ store, known, rules: rulesOf(capture, namespaces), running });
    giveBackMemory();
    await notifyReady(base.runtime.environment['NOTIFY_SOCKET']);
    return manager;
  }

  /** From another agent, which serves until this one knows everything, the server's last word too. Which process is the main one the service manager hears from it. */
  async #takeOver(predecessor: Predecessor): Promise<IdentityManager> {
    const base = this.#base;
    const { sockets } = base;
    const settings = await this.#readSettings();
    const { chosen } = settings;
    sockets.inherit(await predecessor.takeSockets(base.runtime.version));
    const { store, known } = await this.#openKnowledge();
    const { manager, directory } = known;
    await this.#hearServer(manager);
    const traffic = await this.#prepareTraffic(known, settings);
    // Before our turn: traffic comes then.
    giveBackMemory();
    sockets.inherit(await predecessor.awaitTurn(manager));
    // What is for a pod comes to this process as soon as it listens: it knows by then where they live.
    const namespaces = await captureNamespaces(base, directory);
    const running = await traffic.start(namespaces);
    const capture = await captureHost(base, { chosen, directory });
    await serveWorkloads(base, known);
    this.#admin = await answerPeople(base, chosen.capture);
    this.#goOn({ store, known, rules: rulesOf(capture, namespaces), running });
    sockets.closeUnused();
    predecessor.whenLost(() => this.#endUnasked());
    predecessor.serving();
    return manager;
  }

  /** What goes on for as long as the agent serves, until another process takes over. */
  #goOn({ store, known, rules, running }: Serving): void {
    const base = this.#base;
    const { identity, manager, holder } = known;
    const { claims: addresses, log } = base;
    const { version } = base.runtime;
    base.addHandedOver('status reports', reportStatus({ version, identity, holder, addresses, clock, log }));
    shipLeftOvers(base, identity);
    this.#allowReplacement({ store, manager, rules, carrier: running.ship() });
  }

  /** The agent before this one ended before it gave way: what the server told it last, such as a quarantine, nobody knows. The next one is started as after any death. */
  #endUnasked(): void {
    this.#base.log.error('agent_predecessor_lost');
    const message = 'Cannot take over: the agent before this one ended before it gave way';
    this.#ended.reject(new PicketError('unavailable', 'incumbent_gone', message));
  }

  /** The start came to nothing. What another process handed to us is still its own. */
  async giveUp(error: unknown): Promise<void> {
    const { predecessor, sockets, shutdown } = this.#base;
    predecessor?.failed(error);
    if (predecessor !== undefined) sockets.handOn();
    await shutdown.stop();
  }

  async #readSettings(): Promise<HostSettings> {
    const chosen = this.#openCapture();
    const leaving = await this.#readLeavingSettings();
    await mkdir(this.#base.config.dataDirectory, { recursive: true, mode: 0o700 });
    return { chosen, leaving };
  }

  #openCapture(): ChosenCapture {
    const { choice, rulesFile, transparentId } = this.#base.config.capture;
    return openCapture({
      ...choice,
      transparentId,
      nft: {
        rulesFile,
        openJournal: () => openTableJournal({ table: NFT_TABLE_NAME }),
        readGeneration: () => readRulesetGeneration() - countElementTransactions(),
      },
      ownerUid: OWN_UID,
      ownAddresses: listOwnAddresses,
    });
  }

  async #readLeavingSettings(): Promise<LeavingSettings> {
    const { config, runtime, parts } = this.#base;
    const inspection = await readInspection(config.egress.inspection);
    // Found out now: what is configured and cannot be done must not look as if it could.
    parts.inspectionAuthority = inspection && new InspectionAuthority(inspection, clock);
    return {
      authorities: await readAuthorities(config.egress.authorities),
      inspection,
      isGateway: runtime.isGateway === true,
    };
  }

  async #openStore(): Promise<HeldBackStore> {
    const { config, runtime } = this.#base;
    const disk = await openSealedDisk({
      directory: config.dataDirectory,
      keyFile: config.sealKeyFile,
      credentialsDirectory: runtime.environment['CREDENTIALS_DIRECTORY'],
    });
    return new HeldBackStore(disk);
  }

  async #openKnowledge(): Promise<{ readonly store: HeldBackStore; readonly known: Knowledge }> {
    const store = await this.#openStore();
    const adapters = { provers: PROVERS, identifiers: IDENTIFIERS };
    return { store, known: await openKnowledge(this.#base, { store, adapters }) };
  }

  async #prepareTraffic(known: Knowledge, settings: HostSettings): Promise<Traffic> {
    const parts = { ...known, ...settings };
    return await (this.#base.workers === 1
      ? prepareHere(this.#base, parts)
      : prepareInWorkers(this.#base, parts));
  }

  /** For a while; whoever takes over does not wait for a server that is away. */
  async #hearServer(manager: IdentityManager): Promise<void> {
    this.#base.add('identity', manager);
    await manager.start();
    const endMs = clock.monotonicMs() + HEAR_SERVER_MS;
    while (!manager.isConnected && clock.monotonicMs() < endMs)
      await new Promise<void>((resolve) => void clock.schedule(LOOK_EVERY_MS, resolve));
  }

  /** From now on. */
  #allowReplacement(parts: Pick<AgentIncumbentOptions, 'store' | 'manager' | 'rules' | 'carrier'>): void {
    const { replacement, sockets, runtime, shutdown } = this.#base;
    const socket = runtime.environment['NOTIFY_SOCKET'];
    const incumbent = replacement.allow({
      ...parts,
      sockets,
      tellMain: async (mainPid) => await notifyReady(socket, { mainPid }),
      adminConnections: () => this.#admin?.connections ?? 0,
      onEnd: () => this.#ended.resolve(),
    });
    shutdown.add('shipper', async () => await incumbent.stop());
  }
}

function rulesOf(capture: KeptCapture, namespaces: NamespaceKeeper | undefined): Serving['rules'] {
  return [capture, ...(namespaces === undefined ? [] : [namespaces])];
}
