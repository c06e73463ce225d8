import { isDeepStrictEqual } from 'node:util';
import { describeError, failureOf, toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle, TrustBundles } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { KnownParts } from '../server-link/known-parts.ts';
import type { ServerApi } from '../server-link/server-api.ts';
import type { ServerLink } from '../server-link/server-link.ts';
import { applySyncUpdate, saysTheSame, withBundle, type SyncState } from '../server-link/sync-state.ts';
import { SyncStream } from '../server-link/sync-stream.ts';
import { WakeUp } from '../server-link/wake-up.ts';
import type { AgentAttestation } from './agent-attestation.ts';
import { AgentSvid, type GivenWithSvid } from './agent-svid.ts';
import { followSuccessor } from './follow-successor.ts';
import type { HeldSvid, IdentitySource, WorkloadIdentity } from './identity.ts';
import type { IdentityStore } from './identity-store.ts';
import { StateKeeper, type StateObserver } from './state-keeper.ts';
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
  readonly observer?: StateObserver;
}

const RETRY = { firstMs: 500, maxMs: 15_000 };
/** Clocks may jump: what is due is looked at this often at least. */
const MAX_SLEEP_MS = 30_000;

/**
 * Everything that this host knows of identities: its own SVID, those of its workloads, the bundles and what the server says. It attests, renews and
 * follows by itself, keeps all of it sealed, and goes on with what it has while no server answers.
 */
export class IdentityManager implements IdentitySource, Running {
  /** What the server said last, part by part. */
  readonly known: KnownParts;
  readonly #options: IdentityManagerOptions;
  readonly #own: AgentSvid;
  readonly #workloads: WorkloadSvids;
  readonly #sync: WatchedValue<SyncState>;
  readonly #stream: SyncStream;
  readonly #wakeUp: WakeUp;
  readonly #backoff: Backoff;
  readonly #keeper: StateKeeper;
  #failure: string | undefined;
  #isStopped = false;
  #isAside = false;
  #unwatch: () => void = () => undefined;
  #run: Promise<void> | undefined;

  /** `restore` is called before anything else. */
  constructor(options: IdentityManagerOptions, initial: SyncState) {
    this.#options = options;
    this.#sync = new WatchedValue(withBundle(initial, options.firstBundle));
    this.known = new KnownParts(this.#sync.current);
    this.#wakeUp = new WakeUp(options.clock);
    this.#backoff = new Backoff({ ...RETRY, random: options.random });
    this.#own = new AgentSvid({ ...options, refusal: options.api.refusal });
    this.#workloads = new WorkloadSvids({
      ...options,
      requestSvids: async (request) => await options.api.requestSvids(request),
      bundle: () => this.ownBundle,
    });
    this.#keeper = new StateKeeper({ ...options, write: async () => await this.#write() });
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
    return this.known.bundles;
  }

  /** The agent's own SVID. Throws `failed_precondition`, reason `not_attested`, before `start` is done. */
  get agentSvid(): Watched<HeldSvid> {
    return this.#own.current;
  }

  /** The same as a whole: who follows it is told before who follows a part. */
  get sync(): Watched<SyncState> {
    return this.#sync;
  }

  /** The bundle of our own trust domain. */
  get ownBundle(): TrustBundle {
    const { trustDomain, firstBundle } = this.#options;
    return this.#sync.current.bundles.get(trustDomain) ?? firstBundle;
  }

  /** The SPIFFE ID of this host's agent, also while its SVID has ended; undefined before it ever attested. */
  get nodeId(): SpiffeId | undefined {
    return this.#own.spiffeId;
  }

  /** What the agent shows to a server: nothing before it attested, and nothing that has ended. */
  get credentials(): HeldSvid | undefined {
    return this.#own.credentials;
  }

  /** Whether the server is heard and what it said so far is applied. */
  get isConnected(): boolean {
    return this.#stream.isLive;
  }

  /** When the server was last heard since start (milliseconds since 1970), and what fails now: the attestation, a renewal, or the stream. */
  get contact(): { readonly lastHeardMs: number | undefined; readonly failure: string | undefined } {
    return { lastHeardMs: this.#stream.lastHeardMs, failure: this.#failure ?? this.#stream.failure };
  }

  /** Takes what an earlier run left. Rejects with `seal_broken` when it was altered. */
  async restore(): Promise<void> {
    const { store } = this.#options;
    const svid = await store.readAgentSvid();
    if (svid !== undefined) this.#own.restore(svid);
    this.#workloads.restore(await store.readWorkloadSvids());
    this.#workloads.follow(this.#sync.current.entries);
  }

  /**
   * Attests where there is no SVID of an earlier run, then goes on by itself. Returns once there is an SVID. Rejects with what the server refused if it is of
   * no use to try again: a join token that it does not take.
   */
  async start(): Promise<void> {
    while (!this.#own.isHeld && !this.#isStopped) {
      try {
        this.#heed(await this.#own.attest());
      } catch (cause) {
        const error = toPicketError(cause);
        const isFinal = error.code === 'permission_denied' || error.code === 'invalid_argument';
        if (isFinal && !this.#options.attestation.canReattest) throw error;
        await this.#pause('attestation_failed', error);
      }
    }
    if (this.#isStopped) return;
    this.#failure = undefined;
    this.#backoff.reset();
    this.#stream.start();
    this.#unwatch = this.#options.api.refusal.watch((refusal, previous) => {
      if (refusal !== undefined && previous === undefined) this.#wakeUp.wake();
    });
    this.#run ??= this.#tend();
  }

  /**
   * Another process takes over: all that is known is written down for it, and from now on it attests, renews and asks for certificates. This one goes on hearing the
   * server, and takes the certificates that the other one writes down. Only what that leaves overdue it asks for itself: to take over may take longer than a short life has left.
   */
  async stepAside(): Promise<void> {
    await this.#keeper.flush();
    this.#isAside = true;
    this.#wakeUp.wake();
  }

  /** The other process is gone: renews again, and writes down what it has. */
  stepBack(): void {
    this.#isAside = false;
    this.#keeper.changed();
    this.#wakeUp.wake();
  }

  /** Writes down what changed and was not written yet. */
  async writeDown(): Promise<void> {
    await this.#keeper.flush();
  }

  /** Ends the connection to the server, which nothing waits for then, and writes down what is known. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unwatch();
    this.#options.link.close();
    this.#wakeUp.wake();
    await this.#stream.stop();
    await this.#run;
    await this.#keeper.close();
  }

  /** What the server gave with our SVID takes the place of what we had, and the SVID that of the one before on the next connection. */
  #heed({ bundle, isOther }: GivenWithSvid): void {
    const { current } = this.#sync;
    // What was told to somebody else says nothing of us.
    const ours = isOther ? { ...current, position: undefined, entries: new Map() } : current;
    this.#setState(withBundle(ours, bundle));
    this.#redial();
  }

  #redial(): void {
    this.#options.link.reconnect();
    this.#stream.redial();
  }

  #setState(next: SyncState): void {
    const previous = this.#sync.current;
    if (next === previous) return;
    this.#sync.set(next);
    this.known.take(next);
    if (next.bundles !== previous.bundles) this.#judgeByBundles(next.bundles, previous.bundles);
    if (next.entries !== previous.entries) {
      this.#workloads.follow(next.entries);
      this.#wakeUp.wake();
    }
    if (next.quarantines !== previous.quarantines) {
      this.#workloads.askAgain();
      this.#wakeUp.wake();
    }
    // A cursor that alone moved on is made up for by the server.
    if (!saysTheSame(next, previous))
      this.#keeper.changed({ isUrgent: next.quarantines !== previous.quarantines });
  }

  /** Where our own authorities change, what stood on the old ones is judged anew: the connection, and every SVID. */
  #judgeByBundles(next: TrustBundles, previous: TrustBundles): void {
    const { trustDomain } = this.#options;
    const [after, before] = [next, previous].map((each) => each.get(trustDomain)?.x509Authorities);
    if (isDeepStrictEqual(after, before)) return;
    this.#workloads.dropUntrusted();
    this.#redial();
    this.#wakeUp.wake();
  }

  /** Does what is due, sleeps until the next thing is, and backs off while the server does not answer. */
  async #tend(): Promise<void> {
    while (!this.#isStopped) {
      if (this.#isAside) {
        await this.#tendAside();
        continue;
      }
      const error = (await failureOf(this.#tendOwn())) ?? (await failureOf(this.#tendWorkloads()));
      this.#workloads.publish();
      if (error !== undefined) await this.#pause('renewal_failed', error);
      else {
        this.#failure = undefined;
        this.#backoff.reset();
        await this.#wakeUp.sleep(
          Math.min(this.#own.untilNextMs(), this.#workloads.untilNextMs(), MAX_SLEEP_MS),
        );
      }
    }
  }

  async #tendAside(): Promise<void> {
    const { error, delayMs } = await followSuccessor({
      ...this.#options,
      own: this.#own,
      workloads: this.#workloads,
      onOwnChanged: () => this.#redial(),
    });
    if (error !== undefined) this.#tellFailure('renewal_failed', error, delayMs);
    await this.#wakeUp.sleep(delayMs);
  }

  async #tendOwn(): Promise<void> {
    const given = await this.#own.renewDue();
    if (given !== undefined) this.#heed(given);
  }

  async #tendWorkloads(): Promise<void> {
    if (await this.#workloads.renewDue()) this.#keeper.changed();
  }

  async #pause(event: string, error: PicketError): Promise<void> {
    const delayMs = this.#backoff.nextMs();
    this.#failure = describeError(error);
    this.#tellFailure(event, error, delayMs);
    await this.#wakeUp.sleep(delayMs);
  }

  #tellFailure(event: string, error: PicketError, delayMs: number): void {
    const { reason } = error;
    this.#options.log.warn(event, { reason, error: describeError(error), retry_ms: Math.round(delayMs) });
  }

  async #write(): Promise<void> {
    const { store } = this.#options;
    await store.writeSyncState(this.#sync.current);
    // The other process writes them, and what is held back here would be read in the place of that.
    if (!this.#isAside) await store.writeWorkloadSvids(this.#workloads.stored());
  }
}
