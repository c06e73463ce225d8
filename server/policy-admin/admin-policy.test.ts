import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { tmpdir } from 'node:os';
import { eq } from 'drizzle-orm';
import { openTestPglite, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { TestPolicySigner, verifyTestPolicy } from '../../tests/kit/policy-rig.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { operatorRole } from '../../shared/protocol/operator.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { policyActivations, policyVersions } from '../datastore/schema.ts';
import type { AdminRequest } from './admin-input.ts';
import { AdminPolicy, DEFAULT_ADMIN_POLICY } from './admin-policy.ts';
import { OpaCompiler } from './opa.ts';
import { PolicyAdmin } from './policy-admin.ts';

const compiler = new OpaCompiler({ executable: Bun.which('opa') ?? 'opa', temporaryFolder: tmpdir() });
const signer = new TestPolicySigner();
const clock = new FakeClock();

function request(action: string, ...roles: readonly string[]): AdminRequest {
  const operator = {
    name: 'alice',
    spiffe_id: 'spiffe://example.org/picket/operator/alice',
    roles,
    uid: null,
  };
  return { operator, action, subject: 'x' };
}

describe('AdminPolicy.decide()', () => {
  let store: TestDatastore;
  let policy: AdminPolicy;
  let admin: PolicyAdmin;
  beforeAll(async () => {
    store = await openTestPglite();
    const { datastore } = store;
    const { trustDomain } = signer;
    const authority = {
      policyCertificate: Buffer.from('unused'),
      signPolicy: async (statement: Uint8Array) => {
        const { signature, chain } = signer.sign(Buffer.from(statement).toString());
        return {
          signature: Buffer.from(signature, 'base64'),
          chain: chain.map((der) => Buffer.from(der, 'base64')),
        };
      },
    };
    admin = new PolicyAdmin({
      datastore,
      compiler,
      authority,
      verifySignature: (signed) => verifyTestPolicy(signed, signer.bundle),
      trustDomain,
      clock,
    });
    const bundle = new WatchedValue(signer.bundle);
    const loader = createOpaWasmLoader();
    policy = new AdminPolicy({
      datastore,
      compiler,
      loader,
      trustDomain,
      bundle,
      verifySignature: verifyTestPolicy,
      clock,
    });
  }, 60_000);
  afterAll(() => store.dispose());

  const isAllowed = async (action: string, ...roles: readonly string[]): Promise<boolean> =>
    (await policy.decide(request(action, ...roles))).isAllowed;

  test('follows the default policy until one is published', async () => {
    expect(await policy.decide(request('policy.publish', 'policy-author'))).toMatchObject({
      isAllowed: true,
      policyVersion: null,
    });
    expect(await isAllowed('policy.publish', 'auditor')).toBe(false);
    expect(await isAllowed('entry.create', 'registrar')).toBe(true);
    expect(await isAllowed('operator.create', 'registrar')).toBe(false);
    for (const role of operatorRole.options) expect(await isAllowed('entry.list', role)).toBe(true);
    expect(await isAllowed('entry.list')).toBe(false);
  });

  test('denies a local user who is not root', async () => {
    const operator = { name: '', spiffe_id: '', roles: [], uid: 1000 };
    expect((await policy.decide({ operator, action: 'entry.list', subject: '' })).isAllowed).toBe(false);
  });

  test('follows a published policy at once, which sees the whole call', async () => {
    const rego = `package picket.admin

default allow := false

allow if {
	input.operator.name == "alice"
	input.request.body.spiffeId == "spiffe://example.org/web"
}
`;
    await admin.publish({ target: 'admin', files: { 'p.rego': rego }, message: '', actor: 'root' });
    const body = { spiffeId: 'spiffe://example.org/web' };
    expect(await policy.decide({ ...request('entry.create'), body })).toMatchObject({
      isAllowed: true,
      policyVersion: 1,
    });
    expect(await isAllowed('entry.create', 'admin')).toBe(false);
    await admin.publish({ target: 'admin', files: DEFAULT_ADMIN_POLICY, message: '', actor: 'root' });
    expect(await isAllowed('entry.create', 'admin')).toBe(true);
  });

  test('rejects a policy that was changed in the database', async () => {
    const open = 'package picket.admin\n\nallow := true\n';
    const { artifact } = await compiler.compile({ 'p.rego': open }, 'admin');
    await store.datastore.db.update(policyVersions).set({ artifact }).where(eq(policyVersions.version, 2));
    clock.advance(10_000);
    await admin.rollback({ target: 'admin', version: 2, actor: 'root' });
    expect((await refusalOf(policy.decide(request('entry.create')))).reason).toBe('policy_artifact_altered');

    const forged = new TestPolicySigner().publish(
      { condition: 'true', change: { target: 'admin' } },
      9_999_999_999,
    );
    await store.datastore.db.insert(policyActivations).values({
      target: 'admin',
      sequence: 9_999_999_999,
      version: 2,
      signed: forged.signed,
      activatedBy: 'thief',
    });
    expect((await refusalOf(policy.decide(request('entry.create')))).reason).toBe('policy_signature_invalid');
  });
});
