import { toPicketError } from '../../shared/errors/errors.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import { MAX_SIGNING_BATCH, type SignAnswer, type SignRequest } from '../../shared/protocol/signing.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { holdSvid } from './held-svid.ts';
import type { HeldSvid, WorkloadIdentity } from './identity.ts';
import type { StoredWorkloadSvid } from './identity-store.ts';
import { buildCsr, generateP256Key, type KeyPair } from './key-pair.ts';
import { RenewableSvid } from './renewable-svid.ts';

export interface WorkloadSvidsOptions {
  readonly requestSvids: (request: SignRequest) => Promise<SignAnswer['results']>;
  readonly bundle: () => TrustBundle;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

interface Held {
  readonly renewable: RenewableSvid;
  /** Revision of the entry that it was issued for. */
  readonly revision: number;
}

/** A server that refuses one entry is asked again for it after this long. */
const REFUSED_AGAIN_MS = 30_000;

/** The SVIDs of this host's workloads: one for each entry, with a key of its own, renewed in time. */
export class WorkloadSvids {
  readonly identities = new WatchedValue<ReadonlyMap<string, WorkloadIdentity>>(new Map());
  readonly #options: WorkloadSvidsOptions;
  readonly #held = new Map<string, Held>();
  readonly #refusedUntilMs = new Map<string, number>();
  #entries: ReadonlyMap<string, Entry> = new Map();

  constructor(options: WorkloadSvidsOptions) {
    this.#options = options;
  }

  /** Takes what an earlier run left, as far as it is still good. */
  restore(stored: ReadonlyMap<string, StoredWorkloadSvid>): void {
    for (const [id, { svid, revision }] of stored) this.#hold(id, svid, revision);
  }

  /** Takes what another process got and wrote down, which renews in our place, where that is newer than what is held. */
  adopt(stored: ReadonlyMap<string, StoredWorkloadSvid>): void {
    for (const [id, each] of stored) {
      const held = this.#held.get(id);
      if (held === undefined || isNewer(each, held)) this.#hold(id, each.svid, each.revision);
    }
    this.publish();
  }

  /** What a later run needs. */
  stored(): ReadonlyMap<string, StoredWorkloadSvid> {
    return new Map(
      Array.from(this.#held, ([id, held]) => [id, { svid: held.renewable.svid, revision: held.revision }]),
    );
  }

  /** Follows registration: what was withdrawn is gone at once. */
  follow(entries: ReadonlyMap<string, Entry>): void {
    this.#entries = entries;
    for (const id of this.#held.keys()) if (!entries.has(id)) this.#held.delete(id);
    for (const id of this.#refusedUntilMs.keys()) if (!entries.has(id)) this.#refusedUntilMs.delete(id);
    this.publish();
  }

  /** What the server refused may be given now. */
  askAgain(): void {
    this.#refusedUntilMs.clear();
  }

  /** The authorities changed: what does not stand on the new ones is gone, for peers would refuse it, and is asked for anew. */
  dropUntrusted(): void {
    const { bundle, clock } = this.#options;
    const own = bundle();
    for (const [id, { renewable }] of this.#held)
      if (!isTrusted(renewable.svid, own, clock.nowMs())) this.#held.delete(id);
    this.publish();
  }

  /** Shows what is held and has not ended. */
  publish(): void {
    const next = new Map<string, WorkloadIdentity>();
    for (const [id, entry] of this.#entries) {
      const held = this.#held.get(id)?.renewable;
      // A certificate of an older revision goes on until there is a new one, unless it is for another identity.
      if (held === undefined || held.isEnded || held.svid.spiffeId !== entry.spiffeId) continue;
      next.set(id, { entry, svid: held.svid });
    }
    if (!isSame(this.identities.current, next)) this.identities.set(next);
  }

  /** When something is to be done next, in milliseconds from now; 0: at once. */
  untilNextMs(): number {
    let nextMs = Infinity;
    for (const entry of this.#entries.values()) nextMs = Math.min(nextMs, this.#untilDueMs(entry));
    for (const { renewable } of this.#held.values())
      if (!renewable.isEnded) nextMs = Math.min(nextMs, renewable.remainingMs);
    return Math.max(0, nextMs);
  }

  /** Gets what is due, a batch at a time. True if anything changed. Throws what the server's refusal of a whole batch is. */
  async renewDue(): Promise<boolean> {
    return await this.#renewAll((entry) => this.#untilDueMs(entry));
  }

  /** As `renewDue`, of what another process was to renew and has not for long, before it ends. */
  async renewOverdue(): Promise<boolean> {
    return await this.#renewAll((entry) => this.#untilOverdueMs(entry));
  }

  /** When something is overdue next, in milliseconds from now; not positive: it is. */
  untilOverdueMs(): number {
    return Math.min(...Array.from(this.#entries.values(), (entry) => this.#untilOverdueMs(entry)));
  }

  async #renewAll(untilMs: (entry: Entry) => number): Promise<boolean> {
    const due = [...this.#entries.values()].filter((entry) => untilMs(entry) <= 0);
    for (let at = 0; at < due.length; at += MAX_SIGNING_BATCH) {
      await this.#renew(due.slice(at, at + MAX_SIGNING_BATCH));
      this.publish();
    }
    this.publish();
    return due.length > 0;
  }

  #untilDueMs({ entryId, revision }: Entry): number {
    const held = this.#held.get(entryId);
    const isGood = held !== undefined && held.revision === revision && !held.renewable.isEnded;
    return Math.max(this.#untilAskedAgainMs(entryId), isGood ? held.renewable.untilRenewalMs : 0);
  }

  /** What has none yet is for the other process to ask for. */
  #untilOverdueMs({ entryId }: Entry): number {
    const held = this.#held.get(entryId);
    return Math.max(this.#untilAskedAgainMs(entryId), held?.renewable.untilOverdueMs ?? Infinity);
  }

  #untilAskedAgainMs(entryId: string): number {
    return (this.#refusedUntilMs.get(entryId) ?? -Infinity) - this.#options.clock.monotonicMs();
  }

  async #renew(entries: readonly Entry[]): Promise<void> {
    const keys = await Promise.all(entries.map(async () => await generateP256Key()));
    const requests = entries.map(({ entryId }, i) => ({ entryId, csr: toCsr(keys[i]) }));
    const results = await this.#options.requestSvids({ requests });
    for (const [i, entry] of entries.entries()) this.#take(entry, keys[i], results[i]);
  }

  #take(entry: Entry, key: KeyPair | undefined, result: SignAnswer['results'][number] | undefined): void {
    const { bundle, clock, log } = this.#options;
    const { entryId, spiffeId, revision } = entry;
    // It may have been withdrawn meanwhile.
    if (!this.#entries.has(entryId)) return;
    try {
      if (key === undefined || result === undefined) throw new RangeError('There is no answer');
      if (result.kind === 'refused') return this.#refused(entry, result.problem.detail);
      const expected = { spiffeId, bundle: bundle(), nowMs: clock.nowMs() };
      this.#hold(entryId, holdSvid(result.svid, key.privateKeyPkcs8, expected), revision);
      this.#refusedUntilMs.delete(entryId);
      log.info('svid_issued', { spiffeId, entryId });
    } catch (error) {
      this.#refused(entry, toPicketError(error).message);
    }
  }

  #refused({ entryId, spiffeId }: Entry, why: string): void {
    this.#refusedUntilMs.set(entryId, this.#options.clock.monotonicMs() + REFUSED_AGAIN_MS);
    this.#options.log.error('svid_refused', { spiffeId, entryId, why });
  }

  #hold(entryId: string, svid: HeldSvid, revision: number): void {
    const { clock, random } = this.#options;
    this.#held.set(entryId, { renewable: new RenewableSvid(svid, clock, random()), revision });
  }
}

function toCsr(key: KeyPair | undefined): string {
  if (key === undefined) throw new RangeError('There is no key');
  return Buffer.from(buildCsr(key)).toString('base64');
}

function isSame(a: ReadonlyMap<string, WorkloadIdentity>, b: ReadonlyMap<string, WorkloadIdentity>): boolean {
  if (a.size !== b.size) return false;
  for (const [id, { entry, svid }] of b) {
    const known = a.get(id);
    if (known?.svid !== svid || known.entry !== entry) return false;
  }
  return true;
}

function isNewer({ svid, revision }: StoredWorkloadSvid, held: Held): boolean {
  if (revision !== held.revision) return revision > held.revision;
  return svid.notAfterMs > held.renewable.svid.notAfterMs;
}

function isTrusted(svid: HeldSvid, bundle: TrustBundle, nowMs: number): boolean {
  try {
    verifyX509Svid(svid.chain, new Map([[bundle.trustDomain, bundle]]), nowMs);
    return true;
  } catch {
    return false;
  }
}
