import { createHash, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import type { PolicyStatement, SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { buildPolicy } from './build-policy.ts';

const TRUST_DOMAIN = parseTrustDomain('example.org');

/** A policy as a server would publish it. */
export interface TestPolicy {
  readonly signed: SignedPolicy;
  readonly statement: PolicyStatement;
  readonly artifact: Uint8Array;
}

/** Signs policies with one key. The bundle holds that key's public half (SubjectPublicKeyInfo) in place of a certificate. */
export class TestPolicySigner {
  readonly #keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly trustDomain = TRUST_DOMAIN;

  get bundle(): TrustBundle {
    const spki = this.#keys.publicKey.export({ type: 'spki', format: 'der' });
    return { trustDomain: TRUST_DOMAIN, sequence: 1, refreshHintSeconds: 300, x509Authorities: [spki] };
  }

  /** A policy whose rule `allow` holds under `condition`, with further rules appended. */
  publish(
    options: {
      readonly condition: string;
      readonly rules?: string;
      readonly change?: Partial<PolicyStatement>;
    },
    sequence: number,
  ): TestPolicy {
    const rego = `package picket.authz\n\ndefault allow := false\n\nallow if {\n\t${options.condition}\n}\n\n${options.rules ?? ''}\n`;
    const allow = 'picket/authz/allow';
    const egress = options.rules?.includes('egress') === true ? { egress: 'picket/authz/egress' } : {};
    const entrypoints = { allow, ...egress };
    const artifact = buildPolicy({ rego, entrypoints: Object.values(entrypoints) });
    const statement: PolicyStatement = {
      trustDomain: TRUST_DOMAIN,
      target: 'mesh',
      sequence,
      version: sequence,
      digest: createHash('sha256').update(artifact).digest('hex'),
      entrypoints,
      issuedAt: '2026-11-24T09:00:00.000Z',
      ...options.change,
    };
    return { signed: this.sign(JSON.stringify(statement)), statement, artifact };
  }

  sign(statement: string): SignedPolicy {
    const signature = sign('sha256', Buffer.from(statement), this.#keys.privateKey).toString('base64');
    return { statement, signature, chain: [Buffer.from('unused').toString('base64')] };
  }
}

/** Verifies what `TestPolicySigner` signed against its bundle. */
export function verifyTestPolicy(signed: SignedPolicy, bundle: TrustBundle): void {
  const [spki] = bundle.x509Authorities;
  const key = createPublicKey({ key: Buffer.from(spki!), type: 'spki', format: 'der' });
  if (!verify('sha256', Buffer.from(signed.statement), key, Buffer.from(signed.signature, 'base64')))
    throw new PicketError(
      'invalid_argument',
      'policy_signature_invalid',
      'The signature of the policy is not valid',
    );
}
