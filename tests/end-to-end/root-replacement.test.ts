import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  createdToken,
  entryPage,
  nodePage,
  policyPage,
  workloadCertificates,
} from '../../shared/protocol/operator.ts';
import { OperatorClient } from '../kit/operator-client.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';
import { askThroughout } from './never-down/asked-throughout.ts';

/** The steps of docs/root.md: another root takes the place of the one that the mesh was made with, and no request fails. The tests follow each other. */

setDefaultTimeout(240_000);

const { web } = SHOP_USERS;
/** The shortest that there is: an agent renews in half of it. */
const AGENT_LIFE_SECONDS = 60;
const shown = z.object({ rootKeySha256: z.string() });
let shop: Shop;
let alice: OperatorClient;

const file = (name: string): string => join(shop.mesh.control.folder, name);
const text = (name: string): string => readFileSync(file(name), 'utf8');

async function makeOperator(name: string): Promise<OperatorClient> {
  const { control, network } = shop.mesh;
  return await OperatorClient.create(control, { host: network.hosts[3]!, name, roles: ['admin'] });
}

beforeAll(async () => {
  shop = await Shop.open({ serverSettings: { svid: { agent_ttl_seconds: AGENT_LIFE_SECONDS } } });
  alice = await makeOperator('alice');
  const { control } = shop.mesh;
  const init = ['ca', 'init', '--trust-domain', 'example.org', '--out', file('new-ca')];
  await control.picketOk(...init, '--passphrase-file', file('root.passphrase'));
}, 120_000);
afterAll(async () => await shop.close());

async function pinOf(name: string): Promise<string> {
  return (await shop.mesh.control.picketJson(shown, 'ca', 'show', file(name))).rootKeySha256;
}

/** The root that a host pins which is set up now. */
async function pinTold(): Promise<string> {
  const { control } = shop.mesh;
  return (await control.picketJson(createdToken, 'token', 'create', `host-${Date.now()}`)).rootKeySha256;
}

async function restart(): Promise<void> {
  await shop.mesh.control.stop();
  await shop.mesh.control.start();
}

function trust(...roots: readonly string[]): void {
  writeFileSync(file('ca/online/bundle.pem'), roots.map(text).join(''));
}

/** Waits until every host has a certificate of its own that was issued since then: it has heard what the server told before, too. */
async function waitUntilRenewed(sinceMs: number): Promise<void> {
  await waitUntil(
    'the agents have renewed',
    async () => {
      const { items } = await shop.mesh.control.picketJson(nodePage, 'node', 'list');
      return items.every(({ expiry }) => Date.parse(expiry) > sinceMs + AGENT_LIFE_SECONDS * 1000);
    },
    AGENT_LIFE_SECONDS * 2000,
  );
}

/** Does it while requests are made without end; none may fail. */
async function withoutFailure(prefix: string, work: () => Promise<void>): Promise<void> {
  const way = { from: shop.desk.host, uid: web, address: shop.store.host.ipv4 };
  const asked = await askThroughout([way], `/invoices/${prefix}-`, work);
  expect(asked.filter(({ status }) => status !== 200)).toEqual([]);
}

/** Whether the newest certificate of each workload was issued by that intermediate. */
async function areIssuedBy(intermediate: X509Certificate): Promise<boolean> {
  const { control } = shop.mesh;
  for (const name of ['invoices', 'database', 'web', 'reports']) {
    const ask = ['workload', 'certificate', `spiffe://example.org/${name}`];
    const { certificates } = await control.picketJson(workloadCertificates, ...ask);
    const newest = certificates.toSorted((a, b) => b.notBefore.localeCompare(a.notBefore))[0];
    if (newest === undefined || !new X509Certificate(newest.chainPem).verify(intermediate.publicKey))
      return false;
  }
  return true;
}

test('with both roots trusted all goes on below the old one', async () => {
  await withoutFailure('both', async () => {
    trust('ca/root.pem', 'new-ca/root.pem');
    await restart();
    await waitUntilRenewed(Date.now());
  });
  expect(await pinTold()).toBe(await pinOf('ca/root.pem'));
});

test('what the new root signed takes the place of the old, in every certificate that is issued from then on', async () => {
  const { control } = shop.mesh;
  for (const name of ['intermediate.pem', 'intermediate.key', 'policy.pem', 'policy.key'])
    copyFileSync(file(`new-ca/online/${name}`), file(`ca/online/${name}`));
  const intermediate = new X509Certificate(text('ca/online/intermediate.pem'));
  const policies = async () => await control.picketJson(policyPage, 'policy', 'list');
  const sequenceOf = async () =>
    (await policies()).items.find(({ activeSequence }) => activeSequence !== null)?.activeSequence ?? 0;
  const before = await sequenceOf();
  await withoutFailure('new', async () => {
    await restart();
    await waitUntilRenewed(Date.now());
    expect(await areIssuedBy(intermediate)).toBe(false);
    const { items } = await control.picketJson(entryPage, 'entry', 'list');
    for (const { entryId } of items) await control.picketOk('entry', 'update', entryId);
    await waitUntil('the workloads have theirs', async () => await areIssuedBy(intermediate), 30_000);
  });
  expect(await sequenceOf()).toBe(before + 1);
  expect(await pinTold()).toBe(await pinOf('new-ca/root.pem'));
  // She trusts the server by what she was given with her certificate.
  expect((await alice.curl('/nodes')).status).toBe(0);
  const { bundle } = alice.files ?? { bundle: '' };
  writeFileSync(bundle, text('ca/root.pem') + text('new-ca/root.pem'));
  expect((await alice.curl('/nodes')).status).toBe(200);
});

test('without the old root all goes on, a host that starts again too; only operators’ old certificates end', async () => {
  await withoutFailure('one', async () => {
    trust('new-ca/root.pem');
    await restart();
    await waitUntilRenewed(Date.now());
  });
  await shop.store.stop();
  await shop.store.start();
  await waitUntil('requests pass', async () => (await shop.ask(web, '/invoices')).status === 200, 30_000);
  expect((await alice.curl('/nodes')).status).not.toBe(200);
  const bob = await makeOperator('bob');
  expect((await bob.curl('/nodes')).status).toBe(200);
  // The way on is the ordinary one.
  const renew = ['ca', 'renew', file('new-ca'), '--passphrase-file', file('root.passphrase')];
  await shop.mesh.control.picketOk(...renew);
});
