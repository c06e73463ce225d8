import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import type { policyActivated } from '../../shared/protocol/operator.ts';
import { openSignedPolicy } from '../../shared/policy/signed-policy.ts';
import type { PolicyStatement, SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { CertificateAuthority } from '../ca/ca.ts';
import { lockNames } from '../datastore/advisory-lock.ts';
import type { Database, Datastore, Transaction } from '../datastore/datastore.ts';
import { policyActivations, policyVersions } from '../datastore/schema.ts';
import { evaluatePolicy, type PolicyAnswer, type PolicyQuestion } from './evaluate.ts';
import type { PolicyCompiler, PolicyFiles } from './policy-compiler.ts';
import {
  findActivePolicy,
  findArtifact,
  findPolicyVersion,
  listPolicyVersions,
  readLastVersion,
  summaryOf,
  type ActivePolicy,
  type PolicyContent,
  type PolicySummary,
  type PolicyVersionRow,
} from './policy-store.ts';
import type { PolicyTargetName } from './policy-target.ts';
import { requireSamples } from './samples.ts';

export type PolicyActivated = z.output<typeof policyActivated>;

/** What came of a publication. */
export interface PolicyPublished extends PolicyActivated {
  /** What people should look at twice, such as a caller without identity being allowed. */
  readonly warnings: readonly string[];
  /** How many of the policy's own tests passed. */
  readonly testCount: number;
}

/** What administration of policies stands on. */
export interface PolicyAdminOptions {
  readonly datastore: Datastore;
  readonly compiler: PolicyCompiler;
  readonly authority: Pick<CertificateAuthority, 'signPolicy' | 'policyCertificate'>;
  /** Throws unless the signature holds now and its certificates chain to the bundle. */
  readonly verifySignature: (signed: SignedPolicy) => void | Promise<void>;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
}

/** The policy administration point: checks, stores, signs and activates versions. */
export class PolicyAdmin {
  readonly #options: PolicyAdminOptions;

  constructor(options: PolicyAdminOptions) {
    this.#options = options;
  }

  /**
   * Checks a policy (compiler, its own tests, samples), stores it as a new version and puts it in force, in one transaction. A policy that is
   * refused changes nothing; throws `invalid_argument` with a `PolicyRefusal` as the reason and `details.faults`.
   */
  async publish(publication: {
    readonly target: PolicyTargetName;
    readonly files: PolicyFiles;
    readonly message: string;
    readonly actor: string;
  }): Promise<PolicyPublished> {
    const { target, files, message, actor } = publication;
    const { compiler, datastore, clock } = this.#options;
    const compiled = await compiler.compile(files, target);
    const warnings = await requireSamples(compiled, { target, nowMs: clock.nowMs() });
    const { artifact, digest, entrypoints, testCount } = compiled;
    const activated = await datastore.write(async (transaction) => {
      await lockNames(transaction.db, [`policy:${target}`]);
      const version = (await readLastVersion(transaction.db, target)) + 1;
      const row = { target, version, files, artifact, digest, entrypoints, message, createdBy: actor };
      await transaction.db.insert(policyVersions).values({ ...row, createdAt: new Date(clock.nowMs()) });
      return await this.#activate(transaction, row, await this.#next(transaction, row.target, actor));
    });
    const untested = testCount === 0 ? ['it has no tests of its own'] : [];
    return { ...activated, warnings: [...untested, ...warnings], testCount };
  }

  /**
   * Puts the content of an earlier version in force again, under a new and higher sequence, so that agents take it. Throws `not_found`, reason
   * `policy_version_unknown`.
   */
  async rollback(request: {
    readonly target: PolicyTargetName;
    readonly version: number;
    readonly actor: string;
  }): Promise<PolicyActivated> {
    return await this.#options.datastore.write(async (transaction) => {
      await lockNames(transaction.db, [`policy:${request.target}`]);
      const row = await requireVersion(transaction.db, request);
      return await this.#activate(transaction, row, await this.#next(transaction, row.target, request.actor));
    });
  }

  /**
   * Signs the policy in force again where another certificate than today's stands beside its signature: hosts refuse it once that one has ended. Says whether it did.
   * What is signed is what the old signature proves, never what merely stands in the database, and its sequence is the next one: a statement that hosts have
   * left behind stays behind. Throws what `verifySignature` throws, or `failed_precondition`, reason `policy_sequence_altered`, and changes nothing then.
   */
  async signAnew(target: PolicyTargetName): Promise<boolean> {
    const { authority, datastore, trustDomain, verifySignature } = this.#options;
    const signer = toBase64(authority.policyCertificate);
    return await datastore.write(async (transaction) => {
      await lockNames(transaction.db, [`policy:${target}`]);
      const active = await findActivePolicy(transaction.db, target);
      if (active === undefined || active.signed.chain[0] === signer) return false;
      const statement = await openSignedPolicy(active.signed, { trustDomain, target, verifySignature });
      requireSequence(statement, active);
      const activation = { actor: SERVER_ACTOR, sequence: statement.sequence + 1 };
      await this.#activate(transaction, { ...statement, target }, activation);
      return true;
    });
  }

  /** A page of the versions of a target, newest first. */
  async list(page: {
    readonly target: PolicyTargetName;
    readonly cursor?: string | undefined;
    readonly limit?: number;
  }): Promise<{ readonly items: readonly PolicySummary[]; readonly next: string | null }> {
    return await listPolicyVersions(this.#options.datastore.db, page);
  }

  /** A version with its sources. Throws `not_found`, reason `policy_version_unknown`. */
  async get(key: { readonly target: PolicyTargetName; readonly version: number }): Promise<PolicyContent> {
    const { db } = this.#options.datastore;
    const row = await requireVersion(db, key);
    return { ...summaryOf(row, await findActivePolicy(db, key.target)), files: { ...row.files } };
  }

  /** The version in force, with the statement that agents get, or undefined. */
  async current(target: PolicyTargetName): Promise<ActivePolicy | undefined> {
    return await findActivePolicy(this.#options.datastore.db, target);
  }

  /** The artefact of a digest, or undefined. It is no secret among agents. */
  async artifact(digest: string): Promise<Uint8Array | undefined> {
    return await findArtifact(this.#options.datastore.db, digest);
  }

  /** Asks the mesh policy about a hypothetical request (`evaluate.ts`). */
  async evaluate(question: PolicyQuestion): Promise<PolicyAnswer> {
    return await evaluatePolicy(question, this.#options);
  }

  async #next(transaction: Transaction, target: PolicyTargetName, actor: string): Promise<Activation> {
    const last = await findActivePolicy(transaction.db, target);
    return { actor, sequence: nextSequence(last?.sequence ?? 0, this.#options.clock.nowMs()) };
  }

  async #activate(
    transaction: Transaction,
    row: Pick<PolicyStatement, 'version' | 'digest' | 'entrypoints'> & { readonly target: PolicyTargetName },
    { actor, sequence }: Activation,
  ): Promise<PolicyActivated> {
    const { target, version, digest } = row;
    const nowMs = this.#options.clock.nowMs();
    const signed = await this.#sign({
      trustDomain: this.#options.trustDomain,
      target,
      sequence,
      version,
      digest,
      entrypoints: row.entrypoints,
      issuedAt: new Date(nowMs).toISOString(),
    });
    const activation = { target, sequence, version, signed, activatedBy: actor };
    await transaction.db.insert(policyActivations).values({ ...activation, activatedAt: new Date(nowMs) });
    if (target === 'mesh') transaction.changed({ kind: 'policy', key: target });
    return { target, version, sequence, digest };
  }

  async #sign(statement: PolicyStatement): Promise<SignedPolicy> {
    const text = JSON.stringify(statement);
    const { signature, chain } = await this.#options.authority.signPolicy(Buffer.from(text));
    return { statement: text, signature: toBase64(signature), chain: chain.map(toBase64) };
  }
}

/** Who put a version in force, and as the how manieth. */
interface Activation {
  readonly actor: string;
  readonly sequence: number;
}

/** Who activates what no operator asked for. */
const SERVER_ACTOR = 'server';

/** The column that orders activations is not signed. */
function requireSequence(statement: PolicyStatement, active: ActivePolicy): void {
  if (statement.sequence === active.sequence) return;
  throw new PicketError(
    'failed_precondition',
    'policy_sequence_altered',
    `The policy in force stands in the database as sequence ${active.sequence} and was signed as ${statement.sequence}`,
  );
}

/**
 * Sequences grow by one at least, and are never below the seconds since 1970: agents keep the highest that they saw, and a server that was
 * restored from a backup must not fall behind it.
 */
function nextSequence(last: number, nowMs: number): number {
  return Math.max(last + 1, Math.floor(nowMs / 1000));
}

async function requireVersion(
  db: Database,
  key: { readonly target: PolicyTargetName; readonly version: number },
): Promise<PolicyVersionRow> {
  const row = await findPolicyVersion(db, key);
  if (row !== undefined) return row;
  throw new PicketError(
    'not_found',
    'policy_version_unknown',
    `There is no version ${key.version} of the ${key.target} policy`,
  );
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
