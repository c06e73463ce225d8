import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { appendFileSync, cpSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { decisionsBelow } from '../../kit/access-records.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { SmallDisk } from '../../kit/small-disk.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';

/** The disk under the called host's data folder, its state and its spool, is full to the last block and has room again: the agent goes on by itself. */

setDefaultTimeout(240_000);

/** What `picket doctor` wants to be free, and some more. */
const DISK_MIB = 64;
const UNTIL_TOLD_MS = 60_000;
const TARGET = 'spiffe://example.org/invoices';
const { web, reports } = SHOP_USERS;
let shop: Shop;
let disk: SmallDisk;

beforeAll(async () => {
  shop = await Shop.open();
  await shop.store.stop();
  disk = await SmallDisk.under(join(shop.store.folder, 'data'), DISK_MIB);
  await shop.store.start();
  await waitUntil('requests pass', async () => (await ask('before')) === 200, 30_000);
}, 120_000);

afterAll(async () => {
  await shop.store.stop('SIGKILL');
  await disk.remove();
  await shop.close();
});

const ask = async (name: string): Promise<number> => (await shop.ask(web, `/invoices/${name}`)).status;

/** Asks under names of their own until one is refused; those that passed. */
async function askUntilRefused(name: string): Promise<readonly string[]> {
  const passed: string[] = [];
  await waitUntil(
    'requests are refused',
    async () => {
      const next = `${name}-${passed.length + 1}`;
      const status = await ask(next);
      if (status === 200) passed.push(next);
      return status !== 200;
    },
    UNTIL_TOLD_MS,
  );
  return passed;
}

/** By log, metric and doctor. A record that is shorter than the others may just have found room. */
async function isToldOf(): Promise<boolean> {
  await ask('told');
  if ((await shop.store.metric('picket_audit_refusing')) !== 1) return false;
  expect(eventsOf(shop.store.log(), 'audit_records_refused').length).toBeGreaterThan(0);
  expect(await shop.store.metric('picket_data_disk_free_bytes')).toBeLessThan(64 * 1024);
  const { exitCode, faults } = await shop.store.examine();
  expect(exitCode).toBe(1);
  expect(faults.join('\n')).toMatch(/^agent disk fail: .* of 64.0 MiB free/m);
  return faults.some((fault) => fault.startsWith('agent spool fail: requests are refused: disk_full'));
}

async function expectRecorded(name: string, passed: readonly string[]): Promise<void> {
  const read = async (): Promise<readonly string[]> =>
    (await decisionsBelow(shop.mesh.control, TARGET, `/invoices/${name}-`))
      .filter(({ decision }) => decision === 'allow')
      .map(({ path }) => `${path}`.slice('/invoices/'.length));
  await waitUntil('all is recorded', async () => (await read()).length >= passed.length, UNTIL_TOLD_MS);
  expect((await read()).toSorted()).toEqual(passed.toSorted());
}

test('with the server away nothing passes unrecorded, it is told, and with room again all goes on without a restart', async () => {
  const { control } = shop.mesh;
  const { pid } = shop.store;
  await control.stop('SIGKILL');
  await disk.fill();
  const passed = await askUntilRefused('full');
  await waitUntil('no connection passes', async () => (await shop.query(reports)).exitCode !== 0);
  await waitUntil('it is told', isToldOf, UNTIL_TOLD_MS);
  disk.free();
  await waitUntil('requests pass again', async () => (await ask('free')) === 200, UNTIL_TOLD_MS);
  expect(await shop.store.metric('picket_audit_refusing')).toBe(0);
  await control.start();
  await expectRecorded('full', passed);
  expect(shop.store.pid).toBe(pid);
  await waitUntil('it is well', async () => (await shop.store.examine()).exitCode === 0, UNTIL_TOLD_MS);
});

test('a policy, an identity and a certificate that come meanwhile hold once there is room, and after a restart without the server', async () => {
  const narrow = join(shop.folder, 'narrow');
  cpSync(join(import.meta.dirname, '../../kit/policies/shop'), narrow, { recursive: true });
  appendFileSync(
    join(narrow, 'policy.rego'),
    '\nallow if {\n\tinput.caller.path == "/late"\n\tinput.target.path == "/invoices"\n}\n',
  );
  await disk.fill();
  await askUntilRefused('policy');
  const { control } = shop.mesh;
  await control.picketOk('policy', 'publish', narrow, '-m', 'while the disk is full');
  await shop.mesh.register({ path: '/late', on: shop.desk, selectors: ['unix:uid:7071'] });
  await shop.mesh.register({ path: '/new', on: shop.store, selectors: ['unix:uid:7072'] });
  await waitUntil(
    'the host has heard of it',
    async () => (await shop.store.picketOk('agent', 'status')).includes('example.org/new'),
    UNTIL_TOLD_MS,
  );
  for (const what of ['state', 'policy']) {
    const series = `picket_state_write_failures_total{what="${what}"}`;
    const isTold = async (): Promise<boolean> => ((await shop.store.metric(series)) ?? 0) > 0;
    await waitUntil(`a metric tells that the ${what} is not on disk`, isTold, UNTIL_TOLD_MS);
    const event = `${what}_not_kept`;
    expect(eventsOf(shop.store.log(), event).length).toBeGreaterThan(0);
  }
  const freedMs = Date.now();
  disk.free();
  const late = async (): Promise<boolean> => (await shop.ask(7071, '/invoices')).status === 200;
  await waitUntil('the policy is in force', late, UNTIL_TOLD_MS);
  for (const value of ['workload-svids', 'policy-last-good']) {
    const kept = join(shop.store.folder, `data/${value}.sealed`);
    await waitUntil(`${value} is kept`, () => statSync(kept).mtimeMs > freedMs, UNTIL_TOLD_MS);
  }
  await control.stop('SIGKILL');
  await shop.store.stop('SIGKILL');
  await shop.store.start();
  await waitUntil('the policy is in force', late, UNTIL_TOLD_MS);
  expect(await shop.store.picketOk('agent', 'status')).toContain('example.org/new');
  await control.start();
});
