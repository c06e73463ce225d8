import type { Registry } from 'prom-client';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { ServiceStatus } from '../services/services.ts';
import type { SpoolStatus } from '../audit/spool.ts';
import { waitWithin, type Carrier } from '../handover/carrier.ts';
import type { NamespaceListener } from '../namespaces/namespace-place.ts';
import type { IdentityManager } from '../identity/identity-manager.ts';
import type { LoadedPolicy } from '../policy/loaded-policy.ts';
import type { TurnedAway } from '../proxy/mesh/mesh.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import type { Proxy } from '../proxy/proxy.ts';
import type { RecentDenials } from '../proxy/records/recent-denials.ts';
import { findChange, knowledgeOf, NOTHING_KNOWN, type Knowledge } from './knowledge.ts';
import { paceRefresh } from './paced-refresh.ts';
import { findMissingWorker } from './worker-figures.ts';
import type { PolicyToRun, ToWorker, WorkerConfig, WorkerReport } from './worker-messages.ts';
import { WorkerProcess } from './worker-process.ts';
import { WorkerSlot, type WorkerListeners, type WorkerStatus } from './worker-slot.ts';
import { WorkerTally } from './worker-tally.ts';
import type { WorkerNamespaces } from './worker-namespaces.ts';
import type { WorkerSockets } from './worker-sockets.ts';

export interface WorkersOptions {
  /** The program with its arguments that becomes a worker, asked for before each start. */
  readonly command: () => readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly count: number;
  /** Of one worker. */
  readonly configOf: (worker: number) => WorkerConfig;
  readonly sockets: WorkerSockets;
  /** Undefined where the host's own namespace is served alone. */
  readonly namespaces: WorkerNamespaces | undefined;
  /** Calls once the agent that this one takes over from takes no connections any more; undefined where there is none. */
  readonly whenAlone: ((listener: () => void) => void) | undefined;
  readonly manager: IdentityManager;
  readonly policy: Watched<LoadedPolicy | undefined>;
  /** The artefact that a policy was loaded from. */
  readonly artifactOf: (policy: LoadedPolicy) => Uint8Array;
  readonly send: (batch: FramedBatch) => Promise<AuditAnswer>;
  readonly denials: RecentDenials;
  readonly crowd: CrowdTally<TurnedAway>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

const START_MS = 60_000;
/** What the agent before this one had hold of is free a moment after it let go. */
const CHOOSE_AGAIN_MS = 100;
const CHOOSE_ATTEMPTS = 20;
const OPEN_AGAIN_MS = 1000;

/**
 * The data path in several processes. Each has its own listening sockets, which the agent holds as well, and all that decisions stand on; what changes is told to all
 * of them in the same turn. One that ends takes its connections with it and no others: those that come for it wait until it is there again, undecided. No connection is taken before
 * `listen`. Throws `unavailable`, reason `workers_failed`, if one cannot start.
 */
export async function prepareWorkers(options: WorkersOptions): Promise<Workers> {
  const workers = new Workers(options);
  await orStop(workers, async () => await workers.prepare());
  return workers;
}

async function orStop(workers: Workers, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    await workers.stop();
    throw new PicketError('unavailable', 'workers_failed', 'The workers of the data path cannot start', {
      cause,
    });
  }
}

/** See `prepareWorkers`. */
export class Workers implements Proxy, Carrier {
  readonly #options: WorkersOptions;
  readonly #slots: readonly WorkerSlot[];
  readonly #refresh: () => Promise<void>;
  readonly #tally: WorkerTally;
  readonly #unwatch: readonly (() => void)[];
  /** What all that run were told. */
  #told: Knowledge;
  /** Whether another agent has the lanes of the spool. */
  #isAside = false;
  /** Whether another agent takes the connections. */
  #isRetired = false;
  #isStopped = false;

  constructor(options: WorkersOptions) {
    const { manager, policy, count } = options;
    this.#options = options;
    this.#told = knowledgeOf(manager);
    this.#tally = new WorkerTally({ ...options, reports: () => this.#reports() });
    this.#slots = Array.from({ length: count }, (_, worker) => this.#createSlot(worker));
    this.#refresh = paceRefresh(
      async () => void (await Promise.all(this.#slots.map(async (slot) => await slot.refresh()))),
      options.clock,
    );
    this.#unwatch = [
      manager.sync.watch(() => this.#tellChange()),
      manager.identities.watch(() => this.#tellChange()),
      policy.watch((loaded) => this.#tell({ kind: 'policy', policy: this.#policyToRun(loaded) })),
    ];
  }

  /** See `prepareWorkers`. */
  async prepare(): Promise<void> {
    if (this.#options.whenAlone === undefined) this.#choose(1);
    await this.#inTime(this.#first().map(async (slot) => await slot.prepare()));
  }

  /** Takes connections from now on. Throws as `prepareWorkers`. */
  async listen(): Promise<void> {
    await orStop(this, async () => {
      await this.#inTime(this.#first().map(async (slot) => await slot.listen()));
    });
    this.#options.whenAlone?.(() => this.#complete());
  }

  get connections(): number {
    return this.#tally.connections;
  }

  get services(): readonly ServiceStatus[] {
    return this.#tally.services;
  }

  get maxConnections(): number {
    return this.#slots.reduce((sum, _, worker) => sum + this.#options.configOf(worker).limits.connections, 0);
  }

  /** How each stands; of what it reported last. */
  get status(): readonly WorkerStatus[] {
    return this.#slots.map(({ status }) => status);
  }

  /** Their lanes as one. */
  get spool(): SpoolStatus | undefined {
    return this.#tally.spool;
  }

  /** Connections that were refused for want of file descriptors, of all that ever ran. */
  get descriptorsRefused(): number {
    return this.#tally.descriptorsRefused;
  }

  /** What is missing; undefined when all of them take connections. */
  findMissing(): string | undefined {
    return findMissingWorker(this.status);
  }

  /** Gets reports of now, or of a quarter of a second later: see `paceRefresh`. */
  async refresh(): Promise<void> {
    await this.#refresh();
  }

  /** The agent's figures with those of its workers, of now, as one. */
  async metrics(own: Registry): Promise<string> {
    await this.refresh();
    return await this.#tally.metrics(own);
  }

  /** As `HostProxy.listenIn`, by all workers: before `listen` they only get to know the namespace. */
  listenIn(namespace: NetworkNamespace): NamespaceListener {
    const { namespaces } = this.#options;
    if (namespaces === undefined) throw new RangeError('Workers serve the namespace of the host alone');
    return namespaces.listenIn(namespace);
  }

  async moveAside(): Promise<void> {
    await this.#moveSpools(true);
  }

  async moveBack(): Promise<void> {
    await this.#moveSpools(false);
  }

  async drain(withinMs: number): Promise<void> {
    this.#isRetired = true;
    const drained = this.#slots.map(async (slot) => await slot.drain(withinMs));
    // Also what leads connections to them: it is the next agent's now.
    this.#options.sockets.close();
    this.#options.namespaces?.drain();
    await Promise.all(drained);
    await this.#refresh();
  }

  async settle(withinMs: number): Promise<void> {
    const { clock } = this.#options;
    await waitWithin({ withinMs, clock }, async () => {
      await this.refresh();
      return this.spool === undefined || this.spool.depth === 0;
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const unwatch of this.#unwatch) unwatch();
    this.#options.namespaces?.stop();
    // From now on nobody waits for a worker that will not come.
    this.#options.sockets.close();
    await Promise.all(this.#slots.map(async (slot) => await slot.stop()));
  }

  /** Those whose sockets the agent before this one had as well, or all: there is a way back as long as the others are not in the same group. */
  #first(): readonly WorkerSlot[] {
    return this.#slots.filter((_, worker) => this.#options.sockets.isOpen(worker));
  }

  async #inTime(work: readonly Promise<void>[]): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const cancel = this.#options.clock.schedule(START_MS, () =>
      reject(new Error(`They took no connections within ${START_MS / 1000} s`)),
    );
    await Promise.race([Promise.all(work), promise]).finally(cancel);
  }

  /** There is no way back any more: those start of which the agent before this one had fewer. */
  #complete(): void {
    const { sockets, clock, log } = this.#options;
    if (this.#isStopped || this.#isRetired) return;
    const first = new Set(this.#first());
    try {
      sockets.openAll();
    } catch (error) {
      log.error('workers_incomplete', { error: toPicketError(error), retry_ms: OPEN_AGAIN_MS });
      clock.schedule(OPEN_AGAIN_MS, () => this.#complete());
      return;
    }
    for (const slot of this.#slots.filter((each) => !first.has(each)))
      void slot.listen().catch(() => undefined);
    this.#choose(CHOOSE_ATTEMPTS);
  }

  /** Connections spread over all workers where nothing is chosen. */
  #choose(attempts: number): void {
    const { sockets, clock, log } = this.#options;
    if (this.#isStopped || this.#isRetired) return;
    try {
      sockets.choose();
    } catch (error) {
      if (attempts > 1) clock.schedule(CHOOSE_AGAIN_MS, () => this.#choose(attempts - 1));
      else log.warn('workers_not_chosen', { error: toPicketError(error) });
    }
  }

  async #moveSpools(isAside: boolean): Promise<void> {
    this.#isAside = isAside;
    const moved = await Promise.all(this.#slots.map(async (slot) => await slot.moveSpool(isAside)));
    if (moved.includes(false))
      throw new PicketError('unavailable', 'spool_not_moved', 'A worker cannot write its records elsewhere');
  }

  #createSlot(worker: number): WorkerSlot {
    const { clock, random, log } = this.#options;
    return new WorkerSlot({
      worker,
      start: (listeners) => this.#startProcess(worker, listeners),
      onReport: (report, previous) => this.#tally.take(report, previous),
      onGone: (last) => this.#tally.takeLast(last),
      clock,
      random,
      log,
    });
  }

  #startProcess(worker: number, listeners: WorkerListeners): WorkerProcess {
    const { command, environment, configOf, sockets, namespaces, policy, send, clock, log } = this.#options;
    const { names, descriptors } = sockets.of(worker);
    const started = new WorkerProcess({
      command: command(),
      environment,
      descriptors,
      beginning: {
        kind: 'begin',
        worker,
        agentPid: process.pid,
        config: configOf(worker),
        sockets: names,
        knowledge: findChange(NOTHING_KNOWN, this.#told) ?? null,
        policy: this.#policyToRun(policy.current),
        isAside: this.#isAside,
      },
      send,
      ...listeners,
      onNamespaceFailed: (cookie, why) => namespaces?.failed(started, { worker, cookie, why }),
      onGone: (how) => {
        namespaces?.leave(started);
        listeners.onGone(how);
      },
      clock,
      log: log.with({ worker }),
    });
    namespaces?.join(started);
    return started;
  }

  #tellChange(): void {
    const next = knowledgeOf(this.#options.manager);
    const change = findChange(this.#told, next);
    this.#told = next;
    if (change !== undefined) this.#tell({ kind: 'know', change });
  }

  #tell(message: ToWorker): void {
    for (const slot of this.#slots) slot.tell(message);
  }

  #policyToRun(loaded: LoadedPolicy | undefined): PolicyToRun | null {
    if (loaded === undefined) return null;
    const artifact = Buffer.from(this.#options.artifactOf(loaded)).toString('base64');
    return { statement: loaded.statement, artifact };
  }

  #reports(): readonly WorkerReport[] {
    return this.#slots.flatMap(({ status }) => status.report ?? []);
  }
}
