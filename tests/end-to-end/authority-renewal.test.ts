import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { X509Certificate } from 'node:crypto';
import { statusAnswer } from '../../agent/admin/admin-answers.ts';
import { DEFAULT_ADMIN_POLICY } from '../../server/policy-admin/admin-policy.ts';
import { policyPage } from '../../shared/protocol/operator.ts';
import { OperatorClient } from '../kit/operator-client.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';
import { WallClock } from '../kit/wall-clock.ts';

/** What becomes of a mesh when the offline root signs a new intermediate and a new policy signer, and the old ones end. The tests follow each other. */

setDefaultTimeout(120_000);

const { web, reports } = SHOP_USERS;
/** Long enough for servers to start with it and behind it, and less than certificates are valid before they are made: at its end the clocks of the mesh are ahead of curl's. */
const SHORT_LIFE_SECONDS = 240;
let shop: Shop;
let admin: OperatorClient;
let clock: WallClock;

beforeAll(async () => {
  shop = await Shop.open();
  const { control, network } = shop.mesh;
  clock = new WallClock(shop.folder, 'mesh');
  admin = await OperatorClient.create(control, { host: network.hosts[3]!, name: 'alice', roles: ['admin'] });
  await admin.post('/policies?target=admin', { files: DEFAULT_ADMIN_POLICY, message: 'as it was' });
}, 120_000);
afterAll(async () => await shop.close());

const passes = async (): Promise<boolean> =>
  (await shop.ask(web, '/invoices')).status === 200 && (await shop.query(reports)).exitCode === 0;
const refund = async (): Promise<number> => (await shop.ask(web, '/refunds', '-X', 'POST')).status;
const authorityFile = (name: string): string => join(shop.mesh.control.folder, 'ca', name);
const policySigner = (): X509Certificate =>
  new X509Certificate(readFileSync(authorityFile('online/policy.pem')));

async function sequenceInForce(target: 'mesh' | 'admin'): Promise<number> {
  const { items } = await shop.mesh.control.picketJson(policyPage, 'policy', 'list', '--target', target);
  return items.find(({ activeSequence }) => activeSequence !== null)?.activeSequence ?? 0;
}

/** The root's key comes to the machine for the ceremony alone: the server starts and runs without it. */
async function renewAndRestart(...options: readonly string[]): Promise<void> {
  const { control } = shop.mesh;
  await control.stop();
  await control.renewAuthority(...options);
  renameSync(authorityFile('root.key'), join(shop.folder, 'put-away.key'));
  await control.start();
  renameSync(join(shop.folder, 'put-away.key'), authorityFile('root.key'));
}

async function waitUntilTaken(sequence: number): Promise<void> {
  for (const host of [shop.store, shop.desk])
    await waitUntil('the host has taken the policy', async () => {
      const { policy } = statusAnswer.parse(JSON.parse(await host.picketOk('agent', 'status', '--json')));
      return policy?.sequence === sequence;
    });
}

test('a new policy signer signs the policies in force, and the hosts take them as the next in sequence', async () => {
  const before = { mesh: await sequenceInForce('mesh'), admin: await sequenceInForce('admin') };
  await renewAndRestart('--policy-life', `${SHORT_LIFE_SECONDS}s`);
  expect(await sequenceInForce('mesh')).toBe(before.mesh + 1);
  expect(await sequenceInForce('admin')).toBe(before.admin + 1);
  await waitUntilTaken(before.mesh + 1);
  expect([await passes(), await refund()]).toEqual([true, 403]);
});

test('the end of a policy signer that was replaced takes nothing from a host that starts, nor from operators', async () => {
  const { control } = shop.mesh;
  const endMs = policySigner().validToDate.getTime();
  await renewAndRestart();
  await waitUntilTaken(await sequenceInForce('mesh'));
  await control.stop();
  await shop.store.stop();
  await shop.desk.stop();
  // From now on the signer has ended.
  clock.set(Math.ceil((endMs - Date.now()) / 1000) + 1);
  const { env } = clock;
  await shop.store.start({ env });
  await shop.desk.start({ env });
  await waitUntil('requests pass', passes, 30_000);
  expect(await refund()).toBe(403);
  await control.start({ env });
  expect((await admin.curl('/nodes')).status).toBe(200);
});
