import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodePage, tpmHostPage } from '../../shared/protocol/operator.ts';
import { runOk } from '../kit/child.ts';
import { createMesh, type Mesh } from '../kit/mesh.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { createSwtpmManufacturer, startSwtpm, type Swtpm, type SwtpmManufacturer } from '../kit/swtpm.ts';
import { waitUntil } from '../kit/wait.ts';

/** Which TPMs a server takes that wants the certificate of a known manufacturer beside an operator's word. */

setDefaultTimeout(60_000);

/** What a PCR holds that nothing was measured into. */
const UNTOUCHED = '0'.repeat(64);
let folder: string;
let mesh: Mesh;
let manufacturer: SwtpmManufacturer;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-tpm-hosts-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  manufacturer = await createSwtpmManufacturer();
  stack.defer(manufacturer.remove);
  // Its authority is made with its first TPM.
  await addTpm(manufacturer);
  const roots = join(folder, 'roots.pem');
  const intermediates = join(folder, 'intermediates.pem');
  writeFileSync(roots, await manufacturer.rootPem());
  writeFileSync(intermediates, await manufacturer.intermediatePem());
  const tpm = {
    require_certificate: true,
    manufacturer_roots: roots,
    manufacturer_intermediates: intermediates,
  };
  mesh = await createMesh({
    folder: join(folder, 'mesh'),
    trustDomain: 'example.org',
    hosts: 2,
    serverSettings: { tpm },
  });
  stack.defer(async () => await mesh.remove());
}, 120_000);
afterAll(async () => await stack.disposeAsync());

async function addTpm(by?: SwtpmManufacturer): Promise<Swtpm> {
  const tpm = await startSwtpm(by === undefined ? {} : { manufacturer: by });
  stack.defer(tpm.stop);
  return tpm;
}

/** SHA-256 of the endorsement key as other tools tell it: how an operator knows a machine that never spoke to the server. */
async function readEkHash(tpm: Swtpm, algorithm: 'rsa' | 'ecc'): Promise<string> {
  const [key, context] = [join(folder, 'ek.der'), join(folder, 'ek.ctx')];
  const env = { TPM2TOOLS_TCTI: `swtpm:path=${tpm.path}` };
  await runOk(['tpm2_createek', '-G', algorithm, '-c', context, '-u', key, '-f', 'der'], { env });
  await runOk(['tpm2_flushcontext', '-t'], { env });
  return createHash('sha256').update(readFileSync(key)).digest('hex');
}

function prepare(
  name: string,
  tpm: Swtpm,
  keys: { readonly ek?: string; readonly ak?: string } = {},
): MeshHost {
  return mesh.prepareHost(mesh.network.hosts[1]!, {
    name,
    attestation: { type: 'tpm', address: tpm.address },
    settings: { attestation: { tpm: { device: tpm.address, ...keys } }, capture: { enabled: false } },
  });
}

async function approve(ekHash: string, name: string, ...options: readonly string[]): Promise<void> {
  await mesh.control.picketOk('node', 'tpm', 'approve', ekHash, '--name', name, ...options);
}

async function hasAttested(name: string): Promise<boolean> {
  const { items } = await mesh.control.picketJson(nodePage, 'node', 'list');
  return items.some(({ nodeId }) => nodeId === `spiffe://example.org/picket/agent/tpm/${name}`);
}

async function expectRefused(agent: MeshHost, reason: string): Promise<void> {
  const child = agent.launch();
  await waitUntil('it is refused', () => agent.log().includes(reason) || !child.isRunning);
  expect(agent.log()).toContain(reason);
  expect(await hasAttested(agent.name)).toBe(false);
  expect(await agent.isReady()).toBe(false);
  await agent.stop();
}

describe('a host with a TPM', () => {
  test('that an operator allowed by the hash of its endorsement key gets in before anybody saw it', async () => {
    const tpm = await addTpm(manufacturer);
    await approve(await readEkHash(tpm, 'rsa'), 'known');
    const agent = prepare('known', tpm, { ek: 'rsa' });
    await agent.start();
    expect(await hasAttested('known')).toBe(true);
    const { items } = await mesh.control.picketJson(tpmHostPage, 'node', 'tpm', 'list');
    expect(items).toMatchObject([{ name: 'known', state: 'approved', hasTrustedCertificate: true }]);
    await agent.stop();
  });

  test.each([
    ['rsa', 'rsa'],
    ['ecc', 'rsa'],
    ['ecc', 'ecc'],
  ])('proves itself with an %s endorsement key and an %s attestation key', async (ek, ak) => {
    const agent = prepare(`${ek}-${ak}`, await addTpm(manufacturer), { ek, ak });
    await mesh.admitTpmHost(agent);
    expect(await hasAttested(agent.name)).toBe(true);
    await agent.stop();
  });

  test('that no known manufacturer certified is refused, approved or not', async () => {
    const other = await createSwtpmManufacturer();
    stack.defer(other.remove);
    for (const [name, maker] of [
      ['uncertified', undefined],
      ['foreign', other],
    ] as const) {
      const tpm = await addTpm(maker);
      await approve(await readEkHash(tpm, 'rsa'), name);
      await expectRefused(prepare(name, tpm, { ek: 'rsa' }), 'ek_certificate_untrusted');
    }
  });

  test('that an operator denies is refused', async () => {
    const tpm = await addTpm(manufacturer);
    const hash = await readEkHash(tpm, 'rsa');
    await approve(hash, 'denied');
    await mesh.control.picketOk('node', 'tpm', 'deny', hash);
    await expectRefused(prepare('denied', tpm, { ek: 'rsa' }), 'ek_denied');
  });

  test('is only let in with the register values that are expected of it', async () => {
    const tpm = await addTpm(manufacturer);
    const hash = await readEkHash(tpm, 'rsa');
    await approve(hash, 'measured', '--pcr', `7=${'ab'.repeat(32)}`);
    await expectRefused(prepare('measured', tpm, { ek: 'rsa' }), 'pcr_unexpected');
    await approve(hash, 'measured', '--pcr', `7=${UNTOUCHED}`);
    const agent = prepare('measured', tpm, { ek: 'rsa' });
    await agent.start();
    expect(await hasAttested('measured')).toBe(true);
    await agent.stop();
  });
});
