import adminRego from '../../policies/admin/admin.rego' with { type: 'text' };
import adminTests from '../../policies/admin/admin_test.rego' with { type: 'text' };
import { PicketError } from '../../shared/errors/errors.ts';
import type { Verdict } from '../../shared/policy/decision.ts';
import type { PolicyEngine, PolicyEngineLoader } from '../../shared/policy/policy-engine.ts';
import { openSignedPolicy, requireArtifact } from '../../shared/policy/signed-policy.ts';
import { toVerdict } from '../../shared/policy/verdict.ts';
import type { SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { SingleFlight } from '../../shared/runtime/single-flight.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { buildAdminInput, type AdminRequest } from './admin-input.ts';
import type { PolicyCompiler, PolicyFiles } from './policy-compiler.ts';
import { findActivePolicy, findArtifact, type ActivePolicy } from './policy-store.ts';

/** The policy that holds for operators until one is published. */
export const DEFAULT_ADMIN_POLICY: PolicyFiles = {
  'admin.rego': adminRego,
  'admin_test.rego': adminTests,
};

/** What decisions on operators stand on. */
export interface AdminPolicyOptions {
  readonly datastore: Datastore;
  readonly compiler: PolicyCompiler;
  readonly loader: PolicyEngineLoader;
  readonly trustDomain: TrustDomain;
  readonly bundle: Watched<TrustBundle>;
  /** Throws unless the signature holds and its certificates chain to the bundle. */
  readonly verifySignature: (
    signed: SignedPolicy,
    bundle: TrustBundle,
    nowMs: number,
  ) => void | Promise<void>;
  readonly clock: Clock;
}

/** The policy in force and where it stands: sequence 0 and no version for the default. */
interface LoadedAdminPolicy {
  readonly sequence: number;
  readonly version: number | null;
  readonly entrypoint: string;
  readonly engine: PolicyEngine;
}

/**
 * Decides what operators may do, by the admin policy in force. The database is asked at every decision, so that all servers of a cluster follow a
 * change at once; the policy itself is verified and loaded only when it changes. The local administrator is not decided here.
 */
export class AdminPolicy {
  readonly #options: AdminPolicyOptions;
  readonly #loading = new SingleFlight<number, LoadedAdminPolicy>();
  #loaded: LoadedAdminPolicy | undefined;

  constructor(options: AdminPolicyOptions) {
    this.#options = options;
  }

  /** The verdict on a call. Rejects when there is no way to tell: the caller takes that for a denial. */
  async decide(request: AdminRequest): Promise<Verdict> {
    const { clock, datastore } = this.#options;
    const startedMs = clock.monotonicMs();
    const active = await findActivePolicy(datastore.db, 'admin');
    const policy = await this.#require(active);
    const nowMs = clock.nowMs();
    const value = policy.engine.evaluate(policy.entrypoint, buildAdminInput(request, nowMs), nowMs);
    const latencyUs = (clock.monotonicMs() - startedMs) * 1000;
    return toVerdict(value, { denyReason: 'policy_deny', policyVersion: policy.version, latencyUs });
  }

  async #require(active: ActivePolicy | undefined): Promise<LoadedAdminPolicy> {
    const sequence = active?.sequence ?? 0;
    if (this.#loaded?.sequence === sequence) return this.#loaded;
    const loaded = await this.#loading.run(sequence, async () =>
      active === undefined ? await this.#loadDefault() : await this.#loadPublished(active),
    );
    this.#loaded = loaded;
    return loaded;
  }

  async #loadDefault(): Promise<LoadedAdminPolicy> {
    const { compiler, loader } = this.#options;
    const { artifact, entrypoints } = await compiler.compile(DEFAULT_ADMIN_POLICY, 'admin');
    const engine = await loader.load(artifact);
    return { sequence: 0, version: null, entrypoint: entrypoints.allow, engine };
  }

  /** Whoever can write to the database but not sign cannot widen anybody's rights. */
  async #loadPublished(active: ActivePolicy): Promise<LoadedAdminPolicy> {
    const { datastore, loader, bundle, clock, trustDomain, verifySignature } = this.#options;
    const statement = await openSignedPolicy(active.signed, {
      trustDomain,
      target: 'admin',
      verifySignature: async (signed) => await verifySignature(signed, bundle.current, clock.nowMs()),
    });
    const artifact = await findArtifact(datastore.db, statement.digest);
    if (artifact === undefined)
      throw new PicketError(
        'internal',
        'policy_artifact_missing',
        'The artefact of the admin policy is missing',
      );
    requireArtifact(statement, artifact);
    const engine = await loader.load(artifact);
    const { sequence, version, entrypoints } = statement;
    return { sequence, version, entrypoint: entrypoints.allow, engine };
  }
}
