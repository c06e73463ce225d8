import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { KeptRules } from '../capture/kept-capture.ts';
import { waitWithin, type Carrier } from '../handover/carrier.ts';
import type { ListeningSockets } from '../handover/listening-sockets.ts';
import type { Incumbent } from '../handover/upgrade.ts';
import type { IdentityManager } from '../identity/identity-manager.ts';
import type { HeldBackStore } from '../key-store/held-back-store.ts';
import type { SyncPosition } from '../server-link/sync-state.ts';

export interface AgentIncumbentOptions {
  readonly sockets: ListeningSockets;
  readonly store: HeldBackStore;
  readonly manager: IdentityManager;
  readonly carrier: Carrier;
  /** Of the host, and of the namespaces that it serves. */
  readonly rules: readonly KeptRules[];
  /** Tells the service manager which process is the main one from now on. */
  readonly tellMain: (pid: number) => Promise<void>;
  /** What is stopped for good once the successor serves: what answers people and workloads, and what only one process may do. */
  readonly handedOver: readonly { readonly name: string; readonly stop: () => Promise<void> | void }[];
  /** Those of administration, on one of which somebody waits to hear that the agent was replaced. */
  readonly adminConnections: () => number;
  readonly drainMs: number;
  /** Ends the process. */
  readonly onEnd: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** How long the last records may take to reach the server before they are left to the successor, and the last answers to be taken, in milliseconds. */
const LAST_WORDS_MS = 5000;

/** The running agent as one that is replaced: which part lets go of what two processes would share, and when. */
export class AgentIncumbent implements Incumbent {
  readonly #options: AgentIncumbentOptions;
  #drain: Promise<void> = Promise.resolve();

  constructor(options: AgentIncumbentOptions) {
    this.#options = options;
  }

  get connections(): number {
    return this.#options.carrier.connections;
  }

  async hasNews(): Promise<boolean> {
    const { manager, store } = this.#options;
    await manager.writeDown();
    return store.hasHeldBack;
  }

  get heard(): SyncPosition | undefined {
    return this.#options.manager.sync.current.position;
  }

  listSockets(): readonly { readonly name: string; readonly fd: number }[] {
    return this.#options.sockets.list();
  }

  /** State first: while the rest lets go, what the server says is remembered. */
  async stepAside(): Promise<void> {
    const { manager, store, carrier } = this.#options;
    await manager.stepAside();
    await store.holdBack();
    await carrier.moveAside();
  }

  async letGo(): Promise<void> {
    await Promise.all(this.#options.rules.map(async (rules) => await rules.letGo()));
  }

  async stepBack(): Promise<void> {
    const { manager, store, carrier, rules } = this.#options;
    await this.#attempt('state', async () => await store.takeBack());
    manager.stepBack();
    for (const each of rules) await this.#attempt('capture', async () => await each.takeUp());
    // Last, for it may have to wait for processes that the successor had started.
    await this.#attempt('spool', async () => await carrier.moveBack());
  }

  retire(): void {
    const { sockets, store, carrier, drainMs } = this.#options;
    sockets.handOn();
    store.giveAway();
    this.#drain = carrier.drain(drainMs);
  }

  async giveOver(successorPid: number): Promise<void> {
    const { handedOver, tellMain } = this.#options;
    // Before this process can end, and not before there is no way back: a service whose main process ends is started again.
    await this.#attempt('main process', async () => await tellMain(successorPid));
    for (const { name, stop } of handedOver) await this.#attempt(name, async () => await stop());
  }

  async drain(): Promise<void> {
    const { carrier, clock, adminConnections } = this.#options;
    await this.#drain;
    const withinMs = LAST_WORDS_MS;
    await Promise.all([
      carrier.settle(withinMs),
      waitWithin({ withinMs, clock }, () => adminConnections() === 0),
    ]);
  }

  end(): void {
    this.#options.onEnd();
  }

  /** Ends the shipping, and any attempt to watch the rules again. */
  async stop(): Promise<void> {
    await this.letGo();
    await this.#options.carrier.stop();
  }

  /** One part that fails must not keep the others. */
  async #attempt(part: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#options.log.error('handover_failed', { part, error: toPicketError(error) });
    }
  }
}
