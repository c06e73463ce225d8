import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { randomUUID, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCsr, generateP256Key, type KeyPair } from '../../../agent/identity/key-pair.ts';
import { MAX_AUDIT_BATCH, type AuditBatch } from '../../../shared/protocol/audit.ts';
import { accessPage } from '../../../shared/protocol/operator.ts';
import { entry } from '../../../shared/protocol/registration.ts';
import { signAnswer, type SignAnswer } from '../../../shared/protocol/signing.ts';
import { testAccessRecord, testFrames, testSpool } from '../../kit/audit-batches.ts';
import { runOk } from '../../kit/child.ts';
import { createMesh, type Mesh } from '../../kit/mesh.ts';
import { AgentPort, base64, type HeldIdentity } from './agent-port.ts';

/** An agent, let in as it must be, that asks the server for what is not its own; and certificates of others where only agents or operators are heard. */

setDefaultTimeout(60_000);

const WEB = 'spiffe://example.org/web';
let folder: string;
let mesh: Mesh;
let port: AgentPort;
let desk: HeldIdentity;
let store: HeldIdentity;
/** Of desk and of store. */
let webEntry: string;
let databaseEntry: string;
let keyPair: KeyPair;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-agent-requests-'));
  mesh = await createMesh({ folder, trustDomain: 'example.org', hosts: 2 });
  const [, elsewhere] = mesh.network.hosts;
  if (elsewhere === undefined) throw new Error('The network has too few hosts');
  port = new AgentPort(mesh.control, elsewhere);
  desk = await port.join('desk');
  store = await port.join('store');
  webEntry = await register(WEB, desk);
  databaseEntry = await register('spiffe://example.org/database', store);
  keyPair = await generateP256Key();
}, 120_000);
afterAll(async () => {
  await mesh.remove();
  rmSync(folder, { recursive: true, force: true });
});

async function register(spiffeId: string, parent: HeldIdentity): Promise<string> {
  const where = ['--parent', parent.spiffeId, '--selector', 'unix:uid:1000'];
  return (await mesh.control.picketJson(entry, 'entry', 'create', spiffeId, ...where)).entryId;
}

/** What becomes of requests of desk: the identity that was certified, or why none was. */
async function ask(...requests: readonly { readonly entryId: string; readonly csr: string }[]) {
  const { status, body } = await port.post('/v1/svids', { requests }, { as: desk });
  expect(status).toBe(200);
  return signAnswer.parse(body).results;
}

function outcomeOf(result: SignAnswer['results'][number] | undefined): string | undefined {
  return result?.kind === 'issued' ? result.svid.spiffeId : result?.problem.reason;
}

const ownCsr = (): string => base64(buildCsr(keyPair));

/** A request as OpenSSL makes it. */
async function csrOf(key: readonly string[], extensions: string, ...options: readonly string[]) {
  const file = (name: string): string => join(folder, name);
  const config = `[req]\ndistinguished_name=dn\nreq_extensions=ext\nprompt=no\n[dn]\nCN=web\n[ext]\n${extensions}\n`;
  writeFileSync(file('csr.conf'), config);
  await runOk(['openssl', 'genpkey', ...key, '-out', file('csr.key')]);
  const made = ['-key', file('csr.key'), '-config', file('csr.conf'), '-outform', 'DER'];
  await runOk(['openssl', 'req', '-new', ...made, '-out', file('csr.der'), ...options]);
  return base64(readFileSync(file('csr.der')));
}

const P256 = ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const CLAIM = 'subjectAltName=URI:spiffe://example.org/web';

describe('an agent', () => {
  test('is given what is its own: what is refused below is refused for its own reason', async () => {
    const [result] = await ask({ entryId: webEntry, csr: ownCsr() });
    expect(outcomeOf(result)).toBe(WEB);
  });

  test('is not given the identity of another host, nor one that nobody registered, beside what is its own', async () => {
    const results = await ask(
      { entryId: databaseEntry, csr: ownCsr() },
      { entryId: randomUUID(), csr: ownCsr() },
      { entryId: webEntry, csr: ownCsr() },
    );
    expect(results.map(outcomeOf)).toEqual(['entry_unknown', 'entry_unknown', WEB]);
  });

  test('asks by entry, not by identity', async () => {
    for (const entryId of [desk.spiffeId, store.spiffeId, 'spiffe://example.org/picket/server', WEB]) {
      const question = { requests: [{ entryId, csr: ownCsr() }] };
      expect(await port.refusal('/v1/svids', question, { as: desk })).toBe('400 request_invalid');
    }
  });

  test('is given no more at once than there may be', async () => {
    const requests = Array.from({ length: 201 }, () => ({ entryId: webEntry, csr: ownCsr() }));
    expect(await port.refusal('/v1/svids', { requests }, { as: desk })).toBe('400 request_invalid');
  });

  const wishes: Readonly<Record<string, string>> = {
    'another identity': 'subjectAltName=URI:spiffe://example.org/database',
    'further identities': `${CLAIM},URI:spiffe://example.org/database,URI:spiffe://example.org/picket/server`,
    'names of hosts': `${CLAIM},DNS:store.example.org,DNS:localhost,IP:10.9.0.1`,
    'the right to sign': `${CLAIM}\nbasicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign`,
    'other purposes': `${CLAIM}\nextendedKeyUsage=codeSigning,OCSPSigning`,
  };
  for (const [name, extensions] of Object.entries(wishes))
    test(`that asks for ${name} in its request is given what is registered and nothing else`, async () => {
      const [result] = await ask({ entryId: webEntry, csr: await csrOf(P256, extensions) });
      if (result?.kind !== 'issued') throw new Error('It was refused');
      const certificate = new X509Certificate(Buffer.from(result.svid.chain[0] ?? '', 'base64'));
      expect(certificate.subjectAltName).toBe(`URI:${WEB}`);
      expect(certificate.ca).toBe(false);
      // id-kp-serverAuth and id-kp-clientAuth.
      expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
      expect(certificate.subject ?? '').not.toContain('CN=web');
    });

  const keys: Readonly<Record<string, readonly string[]>> = {
    'RSA of 1024 bits': ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024'],
    'P-224': ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-224'],
    'P-521': ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-521'],
    secp256k1: ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:secp256k1'],
    'P-256 by explicit parameters': [...P256, '-pkeyopt', 'ec_param_enc:explicit'],
    Ed448: ['-algorithm', 'ED448'],
  };
  for (const [name, key] of Object.entries(keys))
    test(`is given nothing for a key that is ${name}`, async () => {
      const [result] = await ask({ entryId: webEntry, csr: await csrOf(key, CLAIM) });
      expect(outcomeOf(result)).toBe('public_key_refused');
    });

  test('is given nothing for a key that it does not hold, nor for a request that is none', async () => {
    const honest = buildCsr(keyPair);
    const other = await generateP256Key();
    const at = Buffer.from(honest).indexOf(keyPair.publicKeySpki);
    const stolen = Buffer.from(honest);
    stolen.set(other.publicKeySpki, at);
    const cut = honest.slice(0, -1);
    const sha1 = await csrOf(P256, CLAIM, '-sha1');
    const csrs = [base64(stolen), base64(cut), '', base64(Buffer.alloc(300, 0x30)), sha1];
    const results = await ask(...csrs.map((csr) => ({ entryId: webEntry, csr })));
    expect(results.map(outcomeOf)).toEqual([
      'csr_signature_invalid',
      'csr_invalid',
      'csr_invalid',
      'csr_invalid',
      'signature_algorithm_refused',
    ]);
  });

  test('that renews for a key of another kind is given nothing, and stays what it is', async () => {
    const csr = await csrOf(['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-521'], CLAIM);
    expect(await port.refusal('/v1/agent/renew', { csr }, { as: desk })).toBe('400 public_key_refused');
    const [result] = await ask({ entryId: webEntry, csr: ownCsr() });
    expect(outcomeOf(result)).toBe(WEB);
  });
});

describe('records of an agent', () => {
  const epoch = '7'.repeat(32);
  const where = `/v1/audit/frames?epoch=${epoch}`;
  const spool = testSpool(
    Array.from({ length: 6 }, (_, i) =>
      JSON.stringify(testAccessRecord({ decision_id: `shipped-${i + 1}` })),
    ),
  );
  const stored = async (): Promise<readonly string[]> => {
    const { items } = await mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '1000');
    return items
      .filter(({ decision_id }) => decision_id.startsWith('shipped-'))
      .map(({ node_id, decision_id }) => `${node_id} ${decision_id}`)
      .toSorted();
  };
  const ship = async (records: AuditBatch['records'], as = desk) =>
    await port.post(where, testFrames(records), { as });

  test('are stored in both forms, of which one goes on where the other ended, as those of its own node', async () => {
    const asJson = { epoch, records: spool.slice(0, 3) };
    expect(await port.post('/v1/audit/batches', asJson, { as: desk })).toEqual({
      status: 200,
      body: { epoch, sequence: 3 },
    });
    expect(await ship(spool.slice(2, 5))).toEqual({ status: 200, body: { epoch, sequence: 5 } });
    expect(await ship(spool.slice(0, 1), store)).toEqual({ status: 200, body: { epoch, sequence: 1 } });
    expect(await stored()).toEqual(
      [
        ...[1, 2, 3, 4, 5].map((i) => `${desk.spiffeId} shipped-${i}`),
        `${store.spiffeId} shipped-1`,
      ].toSorted(),
    );
  });

  test('are refused whole for one length that lies, and in every form that is none', async () => {
    const before = await stored();
    const good = testFrames(spool);
    const lying = (at: number, length: number): Buffer => {
      const bytes = Buffer.from(good);
      bytes.writeUInt32BE(length, at);
      return bytes;
    };
    const last = testFrames(spool.slice(0, 5)).length;
    const tooMany = testFrames(testSpool(Array.from({ length: MAX_AUDIT_BATCH + 1 }, () => '{}')));
    for (const bytes of [
      lying(last, 0xffff_ffff),
      lying(last, good.readUInt32BE(last) - 1),
      lying(last, 0),
      lying(0, 16 * 1024),
      good.subarray(0, good.length - 1),
      Buffer.concat([good, Buffer.alloc(1)]),
      Buffer.alloc(0),
      tooMany,
    ])
      expect(await port.refusal(where, bytes, { as: desk })).toBe('400 audit_frames_invalid');
    expect(await port.refusal(where, Buffer.alloc(1024 * 1024 + 1), { as: desk })).toBe('413 body_too_large');
    for (const query of [
      '',
      '?epoch=x',
      `?epoch=${epoch}&gap_after=1`,
      `?epoch=${epoch}&gap_hash=${'0'.repeat(64)}`,
    ])
      expect(await port.refusal(`/v1/audit/frames${query}`, good, { as: desk })).toBe('400 request_invalid');
    const broken = spool.map((record, i) => (i === 5 ? { ...record, hash: 'f'.repeat(64) } : record));
    expect(await port.refusal(where, testFrames(broken), { as: desk })).toBe('400 audit_chain_broken');
    const noRecord = testSpool([...spool.slice(0, 5).map(({ record }) => record), '{}']);
    expect(await port.refusal(where, testFrames(noRecord), { as: desk })).toBe('400 audit_record_invalid');
    expect(await stored()).toEqual(before);
    expect(await ship(spool)).toEqual({ status: 200, body: { epoch, sequence: 6 } });
  });

  test('tell of a gap in their query', async () => {
    const lost = '8'.repeat(32);
    const [, , , fourth, fifth] = spool;
    const told = `gap_after=0&gap_hash=${fourth?.hash ?? ''}`;
    const behind = testFrames(fifth === undefined ? [] : [fifth]);
    const ask = async (query: string) =>
      await port.post(`/v1/audit/frames?epoch=${lost}${query}`, behind, { as: desk });
    expect(await ask('')).toEqual({ status: 200, body: { epoch: lost, sequence: 0 } });
    expect(await ask(`&${told}`)).toEqual({ status: 200, body: { epoch: lost, sequence: 5 } });
  });
});

describe('the certificate of a workload', () => {
  let workload: HeldIdentity;
  beforeAll(async () => {
    const [result] = await ask({ entryId: webEntry, csr: ownCsr() });
    if (result?.kind !== 'issued') throw new Error('It was refused');
    workload = port.hold(result.svid, keyPair);
  });

  test('opens nothing on the agents’ port', async () => {
    const question = { requests: [{ entryId: webEntry, csr: ownCsr() }] };
    for (const [path, body] of [
      ['/v1/svids', question],
      ['/v1/agent/renew', { csr: ownCsr() }],
      ['/v1/audit/batches', {}],
      [`/v1/audit/frames?epoch=${'7'.repeat(32)}`, Buffer.alloc(44)],
    ] as const)
      expect(await port.refusal(path, body, { as: workload })).toBe('401 identity_not_accepted');
  });

  test('opens nothing on the operators’ port, nor does an agent’s', async () => {
    for (const as of [workload, desk])
      expect(await port.refusal('/entries', {}, { as, port: 8444 })).toBe('401 identity_not_accepted');
  });

  test('without its key, or none at all, opens nothing', async () => {
    const question = { requests: [{ entryId: webEntry, csr: ownCsr() }] };
    expect(await port.refusal('/v1/svids', question)).toBe('401 certificate_missing');
    const stolen = { ...desk, keyFile: workload.keyFile };
    expect((await port.post('/v1/svids', question, { as: stolen })).status).toBe(0);
  });
});
