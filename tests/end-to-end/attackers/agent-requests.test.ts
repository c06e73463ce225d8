import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { randomUUID, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCsr, generateP256Key, type KeyPair } from '../../../agent/identity/key-pair.ts';
import { entry } from '../../../shared/protocol/registration.ts';
import { signAnswer, type SignAnswer } from '../../../shared/protocol/signing.ts';
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
