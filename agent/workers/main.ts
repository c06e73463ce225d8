import { Registry } from 'prom-client';
import { describeError, toPicketError } from '../../shared/errors/errors.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { giveBackMemory } from '../../shared/runtime/give-back-memory.ts';
import { createLog, type Log } from '../../shared/runtime/log.ts';
import { readDescriptorUse } from '../../shared/runtime/process-limits.ts';
import { Shutdown } from '../../shared/runtime/shutdown.ts';
import { AgentMetrics } from '../admin/agent-metrics.ts';
import { MovableSpool } from '../audit/movable-spool.ts';
import { ShippedSpool } from '../audit/shipped-spool.ts';
import { startShipper, type Shipper } from '../audit/shipper.ts';
import type { Spool } from '../audit/spool.ts';
import { openCapture } from '../capture/open-capture.ts';
import { startDataPath, type DataPathParts } from '../composition/data-path.ts';
import { listOwnAddresses, OwnAddresses } from '../directory/own-addresses.ts';
import { InspectionAuthority } from '../inspection/inspection-authority.ts';
import { descriptorReserve } from '../native/descriptor-reserve.ts';
import { openHolderScanner } from '../native/holder-scanner.ts';
import { dieWithParent } from '../native/parent-death.ts';
import { openConfiguredTraces } from '../composition/open-configured-traces.ts';
import { openDirectory } from '../composition/open-directory.ts';
import { openProcessIdentifier, type IdentifierAdapters } from '../composition/open-process-identifier.ts';
import type { TurnedAway } from '../proxy/mesh/mesh.ts';
import type { HostProxy } from '../proxy/proxy.ts';
import { RecentDenials } from '../proxy/records/recent-denials.ts';
import type { NamespaceSettings } from '../namespaces/namespace-source.ts';
import { HeldQuarantine } from '../quarantine/quarantine.ts';
import { createMarkedDial } from '../server-link/marked-dial.ts';
import { tellOfDescriptors } from '../composition/tell-of-descriptors.ts';
import { openUsers } from '../users/open-users.ts';
import { createKernelHolderFinder } from '../workload-attestation/kernel-holder-finder.ts';
import { createThreadHolderFinder } from '../workload-attestation/thread-holder-finder.ts';
import { NetworkNamespaceAttestor } from '../workload-attestation/netns.ts';
import { UnixAttestor } from '../workload-attestation/unix.ts';
import { AgentChannel } from './agent-channel.ts';
import { ToldPolicy } from './policy-to-run.ts';
import { ToldKnowledge } from './told-knowledge.ts';
import { ToldNamespaces } from './told-namespaces.ts';
import { MAX_WHY, type Beginning, type WorkerMetric, type WorkerReport } from './worker-messages.ts';
import { GivenSockets } from './worker-sockets.ts';

const clock = systemClock;
const MICROSECONDS = 1_000_000;

const IDENTIFIERS: IdentifierAdapters = {
  unix: (options) => new UnixAttestor(options),
  netns: (findName) => new NetworkNamespaceAttestor(findName),
  openScanner: openHolderScanner,
  kernel: createKernelHolderFinder,
  thread: createThreadHolderFinder,
};

/**
 * The data path of one worker, from what the agent tells it first to the end. It ends with the agent, however that ends: what nobody tells of a quarantine must decide
 * nothing. Rejects before the agent has told it anything; where it cannot start after that, the process ends.
 */
export async function runWorker(runtime: { readonly writeLog: (line: string) => void }): Promise<void> {
  const channel = new AgentChannel(() => process.exit(1));
  const beginning = await channel.beginning;
  dieWithParent(beginning.agentPid);
  const log = createLog({
    level: beginning.config.logLevel,
    nowMs: () => Date.now(),
    write: runtime.writeLog,
    fields: { worker: beginning.worker },
  });
  try {
    await new Worker(channel, { beginning, log }).run();
  } catch (error) {
    // The channel would keep the process, and the agent would wait for it.
    log.error('worker_failed', { error: toPicketError(error), why: describeError(error) });
    process.exit(1);
  }
  process.exit(0);
}

/** The parts of a worker, in the order in which they depend on each other. */
class Worker {
  readonly #channel: AgentChannel;
  readonly #beginning: Beginning;
  readonly #log: Log;
  readonly #shutdown: Shutdown;
  readonly #knowledge = new ToldKnowledge();
  readonly #policy = new ToldPolicy({ loader: createOpaWasmLoader(), clock });
  readonly #registry = new Registry();
  readonly #crowd = new CrowdTally<TurnedAway>(clock);
  readonly #metrics = new AgentMetrics(this.#registry, { crowd: this.#crowd });
  /** Those of which the agent does not know yet. */
  readonly #denials = new RecentDenials();
  readonly #spool: MovableSpool;
  readonly #shipped: ShippedSpool;
  readonly #sockets: GivenSockets;
  readonly #addresses = new OwnAddresses(clock);
  /** Undefined where the host's own namespace is served alone. */
  readonly #namespaces: ToldNamespaces | undefined;
  /** Once it takes connections. */
  readonly #proxy = Promise.withResolvers<HostProxy>();
  readonly #stopped = Promise.withResolvers<void>();

  constructor(channel: AgentChannel, options: { readonly beginning: Beginning; readonly log: Log }) {
    const { beginning, log } = options;
    this.#channel = channel;
    this.#beginning = beginning;
    this.#log = log;
    this.#shutdown = new Shutdown(log);
    tellOfDescriptors(descriptorReserve(), { clock, log });
    const { config, isAside } = beginning;
    this.#sockets = new GivenSockets(beginning.sockets);
    this.#namespaces = this.#openNamespaces(config.capture.namespaces);
    // One that another process still has is not written to: the agent starts this worker again.
    this.#spool = new MovableSpool({ ...config.audit, isAside, clock, log });
    this.#shutdown.add('spool', async () => await this.#spool.close());
    const send = async (...[batch]: Parameters<AgentChannel['ship']>): ReturnType<AgentChannel['ship']> =>
      await channel.ship(batch);
    const ship = (spool: Spool): Shipper => startShipper({ spool, send, clock, random: Math.random, log });
    this.#shipped = new ShippedSpool(this.#spool, ship);
    this.#shutdown.add('shipper', async () => await this.#shipped.stop());
  }

  async run(): Promise<void> {
    const { knowledge, policy } = this.#beginning;
    if (knowledge !== null) this.#knowledge.take(knowledge);
    await this.#policy.take(policy);
    const parts = await this.#prepare();
    this.#hearAgent();
    giveBackMemory();
    await this.#channel.awaitTurn();
    this.#serve(parts);
    this.#channel.tell({ kind: 'ready' });
    await this.#stopped.promise;
    await this.#shutdown.stop();
  }

  /** From before it takes connections: by then it knows all namespaces that it was given. */
  #hearAgent(): void {
    this.#channel.listen({
      know: (change) => this.#orEnd(() => this.#knowledge.take(change)),
      policy: (told) => void this.#policy.take(told).catch((error: unknown) => this.#end(error)),
      report: (id) => void this.#report(id).catch((error: unknown) => this.#end(error)),
      moveSpool: (id, isAside) =>
        void this.#moveSpool(id, isAside).catch((error: unknown) => this.#end(error)),
      namespace: (told) => this.#orEnd(() => this.#namespaces?.add(told)),
      namespaceGone: (cookie) => this.#orEnd(() => this.#namespaces?.remove(cookie)),
      routes: (routed) => this.#orEnd(() => this.#namespaces?.route(routed)),
      drain: (withinMs) => void this.#drain(withinMs).catch((error: unknown) => this.#end(error)),
      stop: () => this.#stopped.resolve(),
    });
  }

  /** Takes connections, on the host and in its other namespaces in the same turn. */
  #serve(parts: DataPathParts): void {
    const proxy = startDataPath(parts);
    this.#shutdown.add('proxy', async () => await proxy.stop());
    this.#namespaces?.listen(proxy);
    this.#proxy.resolve(proxy);
  }

  #openNamespaces(settings: NamespaceSettings): ToldNamespaces | undefined {
    if (settings.named.length + settings.patterns.length === 0) return undefined;
    const sockets = this.#sockets;
    return new ToldNamespaces({
      settings,
      way: sockets.way,
      sockets,
      addresses: this.#addresses,
      onFailed: (cookie, { message }) =>
        this.#channel.tell({ kind: 'namespace_failed', cookie, why: message.slice(0, MAX_WHY) }),
    });
  }

  /** All that can fail before connections are taken. */
  async #prepare(): Promise<DataPathParts> {
    const { config } = this.#beginning;
    const namespaces = this.#namespaces?.namespaces;
    const knowledge = this.#knowledge;
    const log = this.#log;
    const ownNode = (): ReturnType<() => typeof knowledge.nodeId> => knowledge.nodeId;
    const quarantine = new HeldQuarantine({ told: knowledge.quarantines, ownNode });
    const { bundles, entries, enforcement } = knowledge.known;
    const { processes, finder } = openProcessIdentifier({
      adapters: IDENTIFIERS,
      entries,
      findNamespace: namespaces && ((link) => namespaces.findLabel(link)),
      clock,
      log,
    });
    this.#shutdown.add('process finder', () => finder.close());
    const directory = openDirectory({ config, told: knowledge, addresses: this.#addresses, namespaces, log });
    const chosen = openCapture({
      ...config.capture.choice,
      transparentId: config.capture.transparentId,
      ownerUid: process.getuid?.() ?? 0,
      ownAddresses: listOwnAddresses,
    });
    const users = await openUsers({
      issuers: config.issuers,
      dial: createMarkedDial(config.capture.mark),
      clock,
      random: Math.random,
      log,
      onVerified: (outcome) => this.#metrics.userVerified(outcome),
    });
    this.#shutdown.add('users', async () => await users.stop());
    const traces = await openConfiguredTraces(config, { metrics: this.#metrics, clock, log });
    this.#shutdown.add('traces', async () => await traces?.stop());
    const { inspection } = config.leaving;
    return {
      config: { ...config, networks: new Map(config.networks) },
      users,
      traces,
      sockets: this.#sockets,
      identities: { identities: knowledge.identities, bundles },
      enforcement,
      policy: this.#policy.policy,
      processes,
      directory,
      quarantine,
      recorder: this.#spool,
      denials: this.#denials,
      observer: this.#metrics,
      chosen,
      inspectionAuthority: inspection && new InspectionAuthority(inspection, clock),
      clock,
      log,
    };
  }

  /** Where the other place is not to be had, records go where they went. */
  async #moveSpool(id: number, isAside: boolean): Promise<void> {
    try {
      await (isAside ? this.#shipped.moveAside() : this.#shipped.moveBack());
    } catch (error) {
      this.#log.error('spool_not_moved', { error: toPicketError(error) });
    }
    this.#channel.tell({ kind: 'spool_moved', id, isAside: this.#spool.isAside });
  }

  async #drain(withinMs: number): Promise<void> {
    const proxy = await this.#proxy.promise;
    await proxy.drain(withinMs);
    this.#channel.tell({ kind: 'drained' });
  }

  async #report(id: number): Promise<void> {
    const proxy = await this.#proxy.promise;
    const metrics = (await this.#registry.getMetricsAsJSON()) as unknown as WorkerMetric[];
    const counts = this.#crowd.counts;
    const { user, system } = process.cpuUsage();
    const report: WorkerReport = {
      connections: proxy.connections,
      services: proxy.services.map((service) => ({ ...service, members: [...service.members] })),
      turnedAway: {
        unproven: counts.get('unproven') ?? 0,
        idle: counts.get('idle') ?? 0,
        full: counts.get('full') ?? 0,
      },
      descriptorsRefused: descriptorReserve().refused,
      descriptorsOpen: readDescriptorUse().open,
      residentBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / MICROSECONDS,
      policySequence: this.#policy.policy.current?.statement.sequence ?? 0,
      spool: this.#spool.status,
      denials: this.#denials.take(),
      metrics,
    };
    this.#channel.tell({ kind: 'report', id, report });
  }

  #orEnd(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#end(error);
    }
  }

  /** What it was told it cannot take: it must not go on deciding by what was before. The agent starts another. */
  #end(error: unknown): never {
    this.#log.error('worker_failed', { error: toPicketError(error), why: describeError(error) });
    process.exit(1);
  }
}
