import { createHash, timingSafeEqual } from 'node:crypto';
import { PicketError } from '../errors/errors.ts';
import { policyStatement, type PolicyStatement, type SignedPolicy } from '../protocol/policy-statement.ts';
import type { TrustDomain } from '../spiffe/trust-domain.ts';

/** What a signed policy must be for. */
export interface PolicyExpectation {
  readonly trustDomain: TrustDomain;
  readonly target: string;
  /** Throws when the signature or its certificates do not hold. It is asked before anything of the statement is believed. */
  readonly verifySignature: (signed: SignedPolicy) => void | Promise<void>;
}

/**
 * The statement of a signed policy, after its signature, trust domain and target were verified. Throws what
 * `verifySignature` throws, or `invalid_argument`: `policy_statement_invalid`, `policy_foreign`, `policy_wrong_target`.
 */
export async function openSignedPolicy(
  signed: SignedPolicy,
  expected: PolicyExpectation,
): Promise<PolicyStatement> {
  await expected.verifySignature(signed);
  const statement = parseStatement(signed.statement);
  if (statement.trustDomain !== expected.trustDomain)
    throw refuse(
      'policy_foreign',
      `it is for trust domain "${statement.trustDomain}", not "${expected.trustDomain}"`,
    );
  if (statement.target !== expected.target)
    throw refuse('policy_wrong_target', `it is for "${statement.target}", not "${expected.target}"`);
  return statement;
}

/** Refuses an artefact that is not the one that the statement names. Throws `invalid_argument`, reason `policy_artifact_altered`. */
export function requireArtifact(statement: PolicyStatement, artifact: Uint8Array): void {
  const digest = createHash('sha256').update(artifact).digest();
  if (!timingSafeEqual(digest, Buffer.from(statement.digest, 'hex')))
    throw refuse('policy_artifact_altered', 'its artefact has another digest than the one that was signed');
}

function parseStatement(text: string): PolicyStatement {
  try {
    return policyStatement.parse(JSON.parse(text));
  } catch (cause) {
    throw refuse('policy_statement_invalid', 'its statement cannot be read', cause);
  }
}

function refuse(reason: string, why: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', reason, `The policy is refused: ${why}`, { cause });
}
