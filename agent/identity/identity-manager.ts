import { describeError, PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import type { TrustBundle, TrustBundles } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { ServerApi } from '../server-link/server-api.ts';
import type { ServerLink } from '../server-link/server-link.ts';
import { applySyncUpdate, withBundle, type SyncState } from '../server-link/sync-state.ts';
import { SyncStream } from '../server-link/sync-stream.ts';
import { WakeUp } from '../server-link/wake-up.ts';
import type { AgentAttestation, AgentCredentials } from './agent-attestation.ts';
import type { HeldSvid, IdentitySource, WorkloadIdentity } from './identity.ts';
import type { IdentityStore } from './identity-store.ts';
import { renewAtMs, SvidLife } from './svid-life.ts';
import { WorkloadSvids } from './workload-svids.ts';

export interface IdentityManagerOptions {
  readonly trustDomain: TrustDomain;
  readonly link: ServerLink;
  readonly api: ServerApi;
  readonly attestation: AgentAttestation;
  readonly store: IdentityStore;
  /** The bundle that the host was set up with, for as long as there is no better one. */
  readonly firstBundle: TrustBundle;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/** The agent's own SVID while it is held. */
interface OwnSvid {
  readonly svid: HeldSvid;
  readonly life: SvidLife;
  readonly renewAtMs: number;
}

const RETRY = { firstMs: 500, maxMs: 15_000 };
/** What the server said is written down at most this often. */
const KEEP_AFTER_MS = 1000;

/**
 * Everything that this host knows of identities: its own SVID, those of its workloads, the bundles and what the server says. It attests, renews and
 * follows by itself, keeps all of it sealed, and goes on with what it has while no server answers.
 */
export class IdentityManager implements IdentitySource, Running {
  readonly #options: IdentityManagerOptions;
  readonly #workloads: WorkloadSvids;
  readonly #sync: WatchedValue<SyncState>;
  readonly #bundles: WatchedValue<TrustBundles>;
  readonly #entries: WatchedValue<SyncState['entries']>;
  readonly #directory: WatchedValue<SyncState['directory']>;
  readonly #stream: SyncStream;
  readonly #wakeUp: WakeUp;
  readonly #backoff: Backoff;
  #agentSvid: WatchedValue<HeldSvid> | undefined;
  #own: OwnSvid | undefined;
  #isStopped = false;
  #run: Promise<void> | undefined;
  #cancelKeep: (() => void) | undefined;
  #keeping: Promise<void> = Promise.resolve();

  /** `restore` is called before anything else. */
  constructor(options: IdentityManagerOptions, initial: SyncState) {
    this.#options = options;
    this.#sync = new WatchedValue(withBundle(initial, options.firstBundle));
    this.#bundles = new WatchedValue(this.#sync.current.bundles);
    this.#entries = new WatchedValue(this.#sync.current.entries);
    this.#directory = new WatchedValue(this.#sync.current.directory);
    this.#wakeUp = new WakeUp(options.clock);
    this.#backoff = new Backoff({ ...RETRY, random: options.random });
    this.#workloads = new WorkloadSvids({
      ...options,
      requestSvids: async (request) => await options.api.requestSvids(request),
      bundle: () => this.ownBundle,
    });
    this.#stream = new SyncStream({
      ...options,
      open: async (resumeFrom) => await options.api.openSync(resumeFrom),
      position: () => this.#sync.current.position,
      apply: (update) => this.#setState(applySyncUpdate(this.#sync.current, update, options.trustDomain)),
    });
  }

  get identities(): Watched<ReadonlyMap<string, WorkloadIdentity>> {
    return this.#workloads.identities;
  }

  get bundles(): Watched<TrustBundles> {
    return this.#bundles;
  }

  /** The agent's own SVID. Throws `failed_precondition`, reason `not_attested`, before `start` is done. */
  get agentSvid(): Watched<HeldSvid> {
    if (this.#agentSvid !== undefined) return this.#agentSvid;
    throw new PicketError('failed_precondition', 'not_attested', 'This host has not attested yet');
  }

  /** Entries of this host, by id, and the directory, by key: told of only when they change. */
  get entries(): Watched<SyncState['entries']> {
    return this.#entries;
  }

  get directory(): Watched<SyncState['directory']> {
    return this.#directory;
  }

  /** What the server said last. */
  get sync(): Watched<SyncState> {
    return this.#sync;
  }

  /** The bundle of our own trust domain. */
  get ownBundle(): TrustBundle {
    const { trustDomain, firstBundle } = this.#options;
    return this.#sync.current.bundles.get(trustDomain) ?? firstBundle;
  }

  /** What the agent shows to a server: nothing before it attested, and nothing that has ended. */
  get credentials(): HeldSvid | undefined {
    return this.#own?.life.isEnded === false ? this.#own.svid : undefined;
  }

  /** Whether the server is heard and what it said so far is applied. */
  get isConnected(): boolean {
    return this.#stream.isLive;
  }

  /** Takes what an earlier run left. Rejects with `seal_broken` when it was altered. */
  async restore(): Promise<void> {
    const { store, clock } = this.#options;
    const svid = await store.readAgentSvid();
    if (svid !== undefined && svid.notAfterMs > clock.nowMs()) this.#takeOwn(svid);
    this.#workloads.restore(await store.readWorkloadSvids());
    this.#workloads.follow(this.#sync.current.entries);
  }

  /**
   * Attests where there is no SVID of an earlier run, then goes on by itself. Returns once there is an SVID. Rejects with what the server refused if it is of
   * no use to try again: a join token that it does not take.
   */
  async start(): Promise<void> {
    while (this.#own === undefined && !this.#isStopped) {
      try {
        await this.#attest();
      } catch (cause) {
        const error = toPicketError(cause);
        const isFinal = error.code === 'permission_denied' || error.code === 'invalid_argument';
        if (isFinal && !this.#options.attestation.canReattest) throw error;
        await this.#pause('attestation_failed', error);
      }
    }
    if (this.#isStopped) return;
    this.#backoff.reset();
    this.#stream.start();
    this.#run ??= this.#tend();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#wakeUp.wake();
    await this.#stream.stop();
    await this.#run;
    this.#cancelKeep?.();
    await this.#keeping;
    await this.#keep();
  }

  async #attest(): Promise<void> {
    await this.#adopt(await this.#options.attestation.attest());
  }

  /** What the server gave takes the place of what we had, on the next connection too. */
  async #adopt({ svid, bundle }: AgentCredentials): Promise<void> {
    await this.#options.store.writeAgentSvid(svid);
    this.#takeOwn(svid);
    this.#setState(withBundle(this.#sync.current, bundle));
    this.#options.link.reconnect();
    this.#stream.redial();
  }

  #takeOwn(svid: HeldSvid): void {
    const { clock, random } = this.#options;
    this.#own = { svid, life: new SvidLife(svid, clock), renewAtMs: renewAtMs(svid, random()) };
    if (this.#agentSvid === undefined) this.#agentSvid = new WatchedValue(svid);
    else this.#agentSvid.set(svid);
  }

  #setState(next: SyncState): void {
    const previous = this.#sync.current;
    if (next === previous) return;
    this.#sync.set(next);
    if (next.bundles !== previous.bundles) this.#bundles.set(next.bundles);
    if (next.directory !== previous.directory) this.#directory.set(next.directory);
    if (next.entries !== previous.entries) {
      this.#entries.set(next.entries);
      this.#workloads.follow(next.entries);
      this.#wakeUp.wake();
    }
    this.#keepSoon();
  }

  /** Does what is due, sleeps until the next thing is, and backs off while the server does not answer. */
  async #tend(): Promise<void> {
    while (!this.#isStopped) {
      try {
        await this.#tendOwn();
        if (await this.#workloads.renewDue()) this.#keepSoon();
        this.#backoff.reset();
      } catch (cause) {
        this.#workloads.publish();
        await this.#pause('renewal_failed', toPicketError(cause));
        continue;
      }
      await this.#wakeUp.sleep(Math.min(this.#untilOwnMs(), this.#workloads.untilNextMs(), MAX_SLEEP_MS));
    }
  }

  async #tendOwn(): Promise<void> {
    const { attestation, api } = this.#options;
    const own = this.#own;
    // The server does not know the certificate any more, or it has ended: only the host's own proof can help.
    const isLost = own === undefined || own.life.isEnded || api.refusal.current !== undefined;
    if (isLost && attestation.canReattest) return await this.#attest();
    if (own !== undefined && this.#untilOwnMs() <= 0)
      await this.#adopt(await attestation.renew(own.svid.spiffeId));
  }

  #untilOwnMs(): number {
    if (this.#own === undefined) return 0;
    return this.#own.renewAtMs - this.#options.clock.nowMs();
  }

  async #pause(event: string, error: PicketError): Promise<void> {
    const delayMs = this.#backoff.nextMs();
    const { reason } = error;
    this.#options.log.warn(event, { reason, error: describeError(error), retry_ms: Math.round(delayMs) });
    await this.#wakeUp.sleep(delayMs);
  }

  #keepSoon(): void {
    if (this.#isStopped) return;
    this.#cancelKeep ??= this.#options.clock.schedule(KEEP_AFTER_MS, () => {
      this.#cancelKeep = undefined;
      this.#keeping = this.#keep();
    });
  }

  /** What cannot be kept is in force all the same: only a restart would miss it. */
  async #keep(): Promise<void> {
    const { store, log } = this.#options;
    try {
      await store.writeSyncState(this.#sync.current);
      await store.writeWorkloadSvids(this.#workloads.stored());
    } catch (error) {
      log.error('state_not_kept', { error });
    }
  }
}

/** Clocks may jump: what is due is looked at this often at least. */
const MAX_SLEEP_MS = 30_000;
