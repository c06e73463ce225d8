import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { count, eq } from 'drizzle-orm';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { policyQuestion } from '../../shared/protocol/operator.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { policyStatement, type SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { policyActivations, policyVersions } from '../datastore/schema.ts';
import { OpaCompiler } from './opa.ts';
import { PolicyAdmin } from './policy-admin.ts';
import type { PolicyFiles } from './policy-compiler.ts';
import { parseSubmission } from './submission.ts';

const NOW_MS = Date.UTC(2026, 10, 23, 9, 30);
const clock: Clock = { nowMs: () => NOW_MS, monotonicMs: () => 0, schedule: () => () => {} };

/** A policy signer of an age of its own; its certificate is a word. */
class Signer {
  readonly keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly policyCertificate: Uint8Array;

  constructor(certificate: string) {
    this.policyCertificate = Buffer.from(certificate);
  }

  signPolicy(statement: Uint8Array) {
    const signature = sign('sha256', statement, this.keys.privateKey);
    return Promise.resolve({ signature, chain: [this.policyCertificate] });
  }

  requireSigned({ statement, signature, chain }: SignedPolicy): void {
    const isOwn = Buffer.from(chain[0]!, 'base64').equals(this.policyCertificate);
    if (
      !isOwn ||
      !verify('sha256', Buffer.from(statement), this.keys.publicKey, Buffer.from(signature, 'base64'))
    )
      throw new PicketError('unauthenticated', 'policy_signature_invalid', 'not valid');
  }
}

const authority = new Signer('first');
const { keys } = authority;
const compiler = new OpaCompiler({ executable: Bun.which('opa') ?? 'opa', temporaryFolder: tmpdir() });
const root = join(import.meta.dirname, '..', '..', 'policies');

function rego(condition: string): PolicyFiles {
  return { 'policy.rego': `package picket.authz\n\ndefault allow := false\n\nallow if ${condition}\n` };
}

/** A folder of policies/ as an author would hand it in. */
function folderOf(name: string): PolicyFiles {
  const folder = join(root, name);
  const files = readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), 'utf8')]);
  return parseSubmission(Buffer.from(JSON.stringify({ files: Object.fromEntries(files) as PolicyFiles })))
    .files;
}

const GET = rego('input.request.method == "GET"');
const publication = { target: 'mesh', message: '', actor: 'local:uid:0' } as const;

describe.each(DATASTORES)('PolicyAdmin on %s', (_name, open) => {
  let store: TestDatastore;
  let admin: PolicyAdmin;
  /** Who signs with `signer`, and believes what `trusted` signed. */
  const adminWith = (signer: Signer, trusted = signer): PolicyAdmin =>
    new PolicyAdmin({
      datastore: store.datastore,
      compiler,
      authority: signer,
      verifySignature: (signed) => trusted.requireSigned(signed),
      trustDomain: TEST_TRUST_DOMAIN,
      clock,
    });
  beforeAll(async () => {
    store = await open();
    admin = adminWith(authority);
  }, 60_000);
  afterAll(() => store.dispose());

  const ask = async (question: Record<string, unknown>): Promise<Record<string, unknown>> =>
    admin.evaluate(
      policyQuestion.parse({
        caller: 'spiffe://example.org/a',
        target: 'spiffe://example.org/b',
        ...question,
      }),
    );

  test('has nothing in force at first, and denies', async () => {
    expect(await admin.current('mesh')).toBeUndefined();
    expect(await ask({ method: 'GET' })).toMatchObject({
      decision: 'deny',
      reason: 'no_policy',
      version: null,
    });
  });

  test('publish() stores, signs and activates a version, and tells the agents', async () => {
    const changes = await changesOf(store.datastore, async () => {
      const published = await admin.publish({ ...publication, files: GET, message: 'first' });
      expect(published).toMatchObject({
        target: 'mesh',
        version: 1,
        warnings: expect.arrayContaining(['it has no tests of its own']) as unknown,
      });
    });
    expect(changes).toEqual(['policy mesh']);
    const current = (await admin.current('mesh'))!;
    expect(
      verify(
        'sha256',
        Buffer.from(current.signed.statement),
        keys.publicKey,
        Buffer.from(current.signed.signature, 'base64'),
      ),
    ).toBe(true);
    const statement = policyStatement.parse(JSON.parse(current.signed.statement));
    expect(statement).toMatchObject({
      trustDomain: TEST_TRUST_DOMAIN,
      target: 'mesh',
      version: 1,
      sequence: current.sequence,
      entrypoints: { allow: 'picket/authz/allow' },
      issuedAt: '2026-11-23T09:30:00.000Z',
    });
    const engine = await createOpaWasmLoader().load((await admin.artifact(statement.digest))!);
    expect(engine.evaluate('picket/authz/allow', { request: { method: 'GET' } }, 0)).toBe(true);
    expect(await admin.artifact('0'.repeat(64))).toBeUndefined();
  });

  test('publish() warns of a policy that lets callers without identity in', async () => {
    const { warnings } = await admin.publish({ ...publication, files: GET });
    expect(warnings).toContain('it allows a request from a caller without identity');
    const careful = await admin.publish({
      ...publication,
      files: rego('input.caller.spiffe_id == "spiffe://example.org/a"'),
    });
    expect(careful.warnings).toEqual(['it has no tests of its own']);
  });

  test.each([
    ['policy_syntax', rego('{')],
    ['policy_sample_failed', { 'p.rego': 'package picket.authz\n\nallow := "yes"\n' }],
    ['policy_sample_failed', { 'p.rego': 'package picket.authz\n\nallow := {"allow": true}\n' }],
    [
      'policy_sample_failed',
      {
        'p.rego':
          'package picket.authz\n\nallow if input.request.method\n\nallow := false if input.request.path\n',
      },
    ],
  ])('publish() changes nothing when it refuses with %s', async (reason, files: PolicyFiles) => {
    const state = async (): Promise<unknown> => [
      await store.datastore.db.select({ n: count() }).from(policyVersions),
      await store.datastore.db.select({ n: count() }).from(policyActivations),
      await store.datastore.position(),
    ];
    const before = await state();
    const error = await admin.publish({ ...publication, files }).catch((cause: unknown) => cause);
    expect(error).toMatchObject({
      code: 'invalid_argument',
      reason,
      details: { faults: expect.arrayContaining([expect.anything()]) as unknown },
    });
    expect(await state()).toEqual(before);
  });

  test('publish() of several at once gives each its own version and sequence', async () => {
    const published = await Promise.all(
      [1, 2, 3].map((n) => admin.publish({ ...publication, files: rego(`input.target.port == ${n}`) })),
    );
    expect(new Set(published.map(({ version }) => version)).size).toBe(3);
    expect(new Set(published.map(({ sequence }) => sequence)).size).toBe(3);
    const newest = published.toSorted((a, b) => b.sequence - a.sequence)[0]!;
    expect((await admin.current('mesh'))?.version).toBe(newest.version);
  }, 60_000);

  test('rollback() puts old content in force under a higher sequence', async () => {
    const before = (await admin.current('mesh'))!;
    const changes = await changesOf(store.datastore, async () => {
      const activated = await admin.rollback({ target: 'mesh', version: 1, actor: 'x' });
      expect(activated).toMatchObject({ version: 1, sequence: before.sequence + 1 });
    });
    expect(changes).toEqual(['policy mesh']);
    const current = (await admin.current('mesh'))!;
    expect(policyStatement.parse(JSON.parse(current.signed.statement))).toMatchObject({
      version: 1,
      sequence: before.sequence + 1,
    });
    const unknown = await admin
      .rollback({ target: 'mesh', version: 99, actor: 'x' })
      .catch((cause: unknown) => cause);
    expect(unknown).toMatchObject({ code: 'not_found', reason: 'policy_version_unknown' });
  });

  test('list() and get() show versions, newest first, and which is in force', async () => {
    const first = await admin.list({ target: 'mesh', limit: 2 });
    expect(first.items.map(({ version }) => version)).toEqual([6, 5]);
    const second = await admin.list({ target: 'mesh', cursor: first.next!, limit: 10 });
    expect(second.items.map(({ version }) => version)).toEqual([4, 3, 2, 1]);
    expect(second.next).toBeNull();
    expect(second.items.at(-1)).toMatchObject({
      message: 'first',
      createdBy: 'local:uid:0',
      createdAt: '2026-11-23T09:30:00.000Z',
    });
    const active = [...first.items, ...second.items].filter(({ activeSequence }) => activeSequence !== null);
    expect(active.map(({ version }) => version)).toEqual([1]);
    expect(await admin.get({ target: 'mesh', version: 1 })).toMatchObject({ files: GET, version: 1 });
    expect(await admin.list({ target: 'admin' })).toEqual({ items: [], next: null });
  });

  test('evaluate() tells decision, version and the rules that fired, of the version in force or another', async () => {
    expect(await ask({ method: 'GET', path: '/a' })).toMatchObject({
      decision: 'allow',
      reason: 'policy_allow',
      version: 1,
      rules: [{ rule: 'data.picket.authz.allow', file: 'policy.rego', line: 5 }],
      input: { request: { path: '/a' } },
    });
    expect(await ask({ method: 'POST' })).toMatchObject({
      decision: 'deny',
      reason: 'policy_deny',
      rules: [],
    });
    expect(await ask({ method: 'GET', version: 3 })).toMatchObject({ decision: 'allow', version: 3 });
    expect(await ask({ caller: '', method: 'GET', version: 3 })).toMatchObject({
      decision: 'deny',
      version: 3,
    });
    expect(await ask({ method: 'GET', path: '/a/../b' })).toMatchObject({
      decision: 'deny',
      reason: 'policy_error',
      rules: [],
    });
    expect(await ask({ direction: 'outbound' })).toMatchObject({
      decision: 'allow',
      message: 'the policy has no egress rule',
    });
    for (const leaving of [{ domain: 'api.example' }, { protocol: 'udp' }])
      expect(await ask({ direction: 'outbound', target: '', ...leaving })).toMatchObject({
        decision: 'deny',
        reason: 'egress_deny',
        version: 1,
      });
    expect(await ask({ version: 99 }).catch((cause: unknown) => cause)).toMatchObject({
      reason: 'policy_version_unknown',
    });
    for (const senseless of [
      { protocol: 'udp' },
      { protocol: 'udp', direction: 'outbound' },
      { protocol: 'udp', direction: 'outbound', target: '', method: 'GET' },
    ])
      expect(await ask(senseless).catch((cause: unknown) => cause)).toMatchObject({
        reason: 'question_senseless',
      });
  });

  test('takes a policy of the admin target without telling the agents', async () => {
    const changes = await changesOf(store.datastore, async () => {
      await admin.publish({ ...publication, target: 'admin', files: folderOf('admin') });
    });
    expect(changes).toEqual([]);
    expect((await admin.current('admin'))?.version).toBe(1);
    expect((await admin.current('mesh'))?.version).toBe(1);
  });

  test('signAnew() lets what is in force stand where its signer is today’s', async () => {
    const before = await admin.current('mesh');
    expect(await admin.signAnew('mesh')).toBe(false);
    expect(await admin.current('mesh')).toEqual(before);
  });

  test('signAnew() signs what the old signature proves with the new signer, as the next sequence, and tells the agents', async () => {
    const second = new Signer('second');
    const renewed = adminWith(second, authority);
    const before = (await admin.current('mesh'))!;
    const changes = await changesOf(store.datastore, async () => {
      expect(await renewed.signAnew('mesh')).toBe(true);
      expect(await renewed.signAnew('admin')).toBe(true);
    });
    expect(changes).toEqual(['policy mesh']);
    const after = (await admin.current('mesh'))!;
    second.requireSigned(after.signed);
    const [old, anew] = [before, after].map(({ signed }) =>
      policyStatement.parse(JSON.parse(signed.statement)),
    );
    expect(anew).toEqual({ ...old!, sequence: before.sequence + 1 });
    expect(await renewed.signAnew('mesh')).toBe(false);
    expect(await adminWith(authority, second).signAnew('mesh')).toBe(true);
    expect(await adminWith(authority, second).signAnew('admin')).toBe(true);
  });

  test('signAnew() signs nothing that the old signature does not prove', async () => {
    const thief = new Signer('thief');
    const { db } = store.datastore;
    const current = (await admin.current('mesh'))!;
    const forge = async (signed: SignedPolicy, sequence: number): Promise<unknown> => {
      const row = { target: 'mesh' as const, version: 1, activatedBy: 'thief', signed, sequence };
      await db.insert(policyActivations).values(row);
      const refused = await adminWith(new Signer('next'), authority)
        .signAnew('mesh')
        .catch((error: unknown) => error);
      expect((await admin.current('mesh'))?.sequence).toBe(sequence);
      await db.delete(policyActivations).where(eq(policyActivations.sequence, sequence));
      return refused;
    };
    const { signature } = await thief.signPolicy(Buffer.from(current.signed.statement));
    const forged = { ...current.signed, signature: Buffer.from(signature).toString('base64') };
    const far = current.sequence + 1000;
    expect(await forge(forged, far)).toMatchObject({ reason: 'policy_signature_invalid' });
    expect(await forge(current.signed, far)).toMatchObject({ reason: 'policy_sequence_altered' });
  });

  test('publishes the examples of policies/ and decides as their authors meant', async () => {
    await admin.publish({ ...publication, files: folderOf('examples/caller-id') });
    expect(await ask({ caller: 'spiffe://corp/ns/frontend/sa/web-server', method: 'GET' })).toMatchObject({
      decision: 'allow',
    });
    expect(await ask({ caller: 'spiffe://corp/ns/frontend/sa/other', method: 'GET' })).toMatchObject({
      decision: 'deny',
    });

    await admin.publish({ ...publication, files: folderOf('examples/envoy') });
    const billing = { caller: 'spiffe://example.org/ns/billing/sa/payments' };
    expect(await ask({ ...billing, method: 'POST' })).toMatchObject({
      decision: 'allow',
      reason: 'policy_allow',
    });
    expect(await ask({ ...billing, method: 'GET' })).toMatchObject({
      decision: 'deny',
      reason: 'policy_deny',
    });
    expect(await ask({ caller: 'spiffe://example.org/ns/web/sa/a', method: 'POST' })).toMatchObject({
      decision: 'deny',
    });
    expect(await ask({ caller: '', method: 'POST' })).toMatchObject({ decision: 'deny' });
    const forged = { 'X-Forwarded-Client-Cert': 'URI=spiffe://example.org/ns/billing/sa/payments' };
    expect(
      await ask({ caller: 'spiffe://example.org/ns/web/sa/a', method: 'POST', headers: forged }),
    ).toMatchObject({ decision: 'deny' });

    expect((await admin.publish({ ...publication, files: folderOf('mesh') })).warnings).toEqual([]);
    const invoices = {
      caller: 'spiffe://example.org/web',
      target: 'spiffe://example.org/invoices',
      path: '/invoices/7',
    };
    expect(await ask({ ...invoices, method: 'GET' })).toMatchObject({ decision: 'allow' });
    expect(await ask({ ...invoices, method: 'POST' })).toMatchObject({ decision: 'deny' });
  }, 60_000);
});
