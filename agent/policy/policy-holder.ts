import { ERROR_CODES, failureOf, PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { PolicyEngineLoader } from '../../shared/policy/policy-engine.ts';
import { openSignedPolicy, requireArtifact } from '../../shared/policy/signed-policy.ts';
import { MAX_ARTIFACT_BYTES } from '../../shared/policy/policy-bundle.ts';
import type { PolicyStatement, SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import { Backoff } from '../../shared/runtime/backoff.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { WatchedValue, type Watched } from '../../shared/runtime/watched-value.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { SealedStore } from '../key-store/sealed-store.ts';
import { LastGood, type KeptPolicy, type KnownSequences } from './last-good.ts';
import { loadPolicy, type LoadedPolicy } from './loaded-policy.ts';

/** What came of a policy that was offered. `unchanged`: it is in force already. */
export type PolicyOutcome = 'in_force' | 'unchanged' | 'refused';

/** What metrics want to know. */
export interface PolicyObserver {
  inForce(policy: { readonly version: number; readonly sequence: number }): void;
  /** A policy was not taken; `reason` is of a closed list (see `PolicyHolder`). */
  refused(reason: string): void;
  /** The disk did not take the policy in force. */
  unkept(what: 'policy'): void;
}

/** What the holder stands on. */
export interface PolicyHolderOptions {
  readonly trustDomain: TrustDomain;
  /** The bundle of our own trust domain as it is now; undefined before there is one. */
  readonly bundle: () => TrustBundle | undefined;
  /** Throws unless the signature holds and its certificates chain to the bundle. */
  readonly verifySignature: (
    signed: SignedPolicy,
    bundle: TrustBundle,
    nowMs: number,
  ) => void | Promise<void>;
  readonly loader: PolicyEngineLoader;
  /** Gets the artefact of a digest from the server. Throws a retryable code where trying again can help. */
  readonly fetchArtifact: (digest: string) => Promise<Uint8Array>;
  readonly store: SealedStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly observer?: PolicyObserver;
}

const TARGET = 'mesh';
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;

/**
 * Holds the policy in force. A new one is verified (signature, trust domain, target, sequence, digest), loaded and warmed before it replaces
 * the old one in one step; whatever fails leaves the old one in force and says so. Reasons of a refusal beside those of the signature:
 * `bundle_missing`, `policy_statement_invalid`, `policy_foreign`, `policy_wrong_target`, `policy_sequence_old`, `policy_sequence_reused`,
 * `policy_artifact_altered`, `policy_artifact_invalid`, `policy_warm_up_failed`, and those of `fetchArtifact`.
 */
export class PolicyHolder {
  readonly #options: PolicyHolderOptions;
  readonly #lastGood: LastGood;
  readonly #policy = new WatchedValue<LoadedPolicy | undefined>(undefined);
  readonly #backoff: Backoff;
  #sequences: KnownSequences = { highest: 0, kept: 0 };
  /** In force, and not on disk yet. */
  #unkept: KeptPolicy | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** Grows with every offer: a retry is given up when a newer one came. */
  #offers = 0;
  #cancelRetry: () => void = () => undefined;

  constructor(options: PolicyHolderOptions) {
    this.#options = options;
    this.#lastGood = new LastGood(options.store);
    this.#backoff = new Backoff({ firstMs: RETRY_FIRST_MS, maxMs: RETRY_MAX_MS, random: options.random });
  }

  /** The policy in force; undefined means that everything is denied. */
  get policy(): Watched<LoadedPolicy | undefined> {
    return this.#policy;
  }

  /** The highest sequence that was ever proven on this host; 0 before the first. */
  get highestSequence(): number {
    return this.#sequences.highest;
  }

  /**
   * At start, once and before any offer: remembers the highest sequence and puts the last good policy in force, verified anew. A policy that no longer holds is
   * refused, logged, and leaves none in force. Rejects with `seal_broken` when the sequence was altered on disk: then a replay could not be told.
   */
  async restore(): Promise<PolicyOutcome> {
    this.#sequences = await this.#lastGood.readSequences();
    return await this.#attempt(undefined, async () => {
      const kept = await this.#lastGood.readPolicy();
      if (kept === undefined) return 'unchanged';
      const statement = await this.#open(kept.signed);
      if (statement.sequence < this.#sequences.kept)
        throw refuse(
          'policy_sequence_old',
          `its sequence ${statement.sequence} is behind ${this.#sequences.kept}, which this host kept`,
        );
      await this.#putInForce(statement, kept.artifact);
      const highest = Math.max(this.#sequences.highest, statement.sequence);
      this.#sequences = { ...this.#sequences, highest };
      return 'in_force';
    });
  }

  /** Takes a policy that the server sent. Never rejects. Offers are worked off one after another; one whose artefact cannot be fetched is tried again. */
  async offer(signed: SignedPolicy): Promise<PolicyOutcome> {
    this.#offers += 1;
    this.#cancelRetry();
    this.#backoff.reset();
    return await this.#enqueue(signed, this.#offers);
  }

  /** Gives up retries. The policy stays in force. */
  stop(): void {
    this.#offers += 1;
    this.#cancelRetry();
  }

  async #enqueue(signed: SignedPolicy, offer: number): Promise<PolicyOutcome> {
    const run = this.#last.then(async () => {
      if (offer !== this.#offers) return 'unchanged';
      return await this.#attempt({ signed, offer }, async () => await this.#take(signed));
    });
    this.#last = run;
    return await run;
  }

  async #take(signed: SignedPolicy): Promise<PolicyOutcome> {
    const statement = await this.#open(signed);
    if (this.#isInForce(statement)) {
      await this.#keep(statement.sequence);
      return 'unchanged';
    }
    const artifact = await this.#fetchAndRemember(statement);
    await this.#putInForce(statement, artifact);
    this.#unkept = { signed, artifact };
    await this.#keep(statement.sequence);
    return 'in_force';
  }

  /** The disk and the server are waited for at once: what is denied from now on must not wait for both. */
  async #fetchAndRemember({ sequence, digest }: PolicyStatement): Promise<Uint8Array> {
    const isNewer = sequence > this.#sequences.highest;
    const remembering = isNewer
      ? this.#tryToKeep(async () => await this.#remember({ ...this.#sequences, highest: sequence }))
      : Promise.resolve();
    try {
      return await this.#options.fetchArtifact(digest);
    } finally {
      await remembering;
    }
  }

  async #open(signed: SignedPolicy): Promise<PolicyStatement> {
    const { trustDomain, verifySignature, clock } = this.#options;
    const bundle = this.#options.bundle();
    if (bundle === undefined)
      throw new PicketError(
        'unavailable',
        'bundle_missing',
        'There is no trust bundle to verify a policy with',
      );
    return await openSignedPolicy(signed, {
      trustDomain,
      target: TARGET,
      verifySignature: async (each) => await verifySignature(each, bundle, clock.nowMs()),
    });
  }

  /** Throws for a sequence that was seen before under other content, or that is behind one that was seen. */
  #isInForce(statement: PolicyStatement): boolean {
    const current = this.#policy.current?.statement;
    if (statement.sequence === current?.sequence) {
      if (statement.digest === current.digest && statement.version === current.version) return true;
      throw refuse('policy_sequence_reused', `sequence ${statement.sequence} was another policy before`);
    }
    const { highest } = this.#sequences;
    if (statement.sequence < highest)
      throw refuse(
        'policy_sequence_old',
        `its sequence ${statement.sequence} is behind ${highest}, which this host has seen`,
      );
    return false;
  }

  async #putInForce(statement: PolicyStatement, artifact: Uint8Array): Promise<void> {
    if (artifact.length > MAX_ARTIFACT_BYTES)
      throw refuse('policy_artifact_invalid', `its artefact is longer than ${MAX_ARTIFACT_BYTES} bytes`);
    requireArtifact(statement, artifact);
    const loaded = await loadPolicy(
      this.#options.loader,
      { statement, artifact },
      this.#options.clock.nowMs(),
    );
    this.#policy.set(loaded);
    const { version, sequence, digest } = statement;
    this.#options.log.info('policy_in_force', { version, sequence, digest });
    this.#options.observer?.inForce({ version, sequence });
  }

  async #remember(sequences: KnownSequences): Promise<void> {
    this.#sequences = sequences;
    await this.#lastGood.writeSequences(sequences);
  }

  async #keep(sequence: number): Promise<void> {
    const policy = this.#unkept;
    if (policy === undefined) return;
    await this.#tryToKeep(async () => {
      await this.#lastGood.writePolicy(policy);
      await this.#remember({ ...this.#sequences, kept: sequence });
      this.#unkept = undefined;
    });
  }

  /** A policy that cannot be kept is in force all the same: an older one would allow what it denies. Only a restart would miss it; it is tried again. */
  async #tryToKeep(work: () => Promise<void>): Promise<void> {
    const error = await failureOf(work());
    if (error === undefined) return;
    this.#options.log.error('policy_not_kept', { error });
    this.#options.observer?.unkept('policy');
  }

  async #attempt(
    retry: { readonly signed: SignedPolicy; readonly offer: number } | undefined,
    work: () => Promise<PolicyOutcome>,
  ): Promise<PolicyOutcome> {
    try {
      const outcome = await work();
      if (this.#unkept !== undefined && retry !== undefined) this.#retry(retry);
      return outcome;
    } catch (cause) {
      const error = toPicketError(cause);
      const inForce = this.#policy.current?.statement.version ?? null;
      this.#options.log.error('policy_refused', { reason: error.reason, error, policyInForce: inForce });
      this.#options.observer?.refused(error.reason);
      if (retry !== undefined && ERROR_CODES[error.code].isRetryable) this.#retry(retry);
      return 'refused';
    }
  }

  #retry({ signed, offer }: { readonly signed: SignedPolicy; readonly offer: number }): void {
    if (offer !== this.#offers) return;
    this.#cancelRetry = this.#options.clock.schedule(this.#backoff.nextMs(), () => {
      void this.#enqueue(signed, offer);
    });
  }
}

function refuse(reason: string, why: string): PicketError {
  return new PicketError('invalid_argument', reason, `The policy is refused: ${why}`);
}
