import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { startPostgres, type TestPostgres } from '../../kit/postgres.ts';
import { Shop } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { SteadyLoad } from './steady-load.ts';

/** PostgreSQL is stopped, or crashes (`pg_ctl stop -m immediate`), under a server that is at work, and is started again: nobody restarts the server. */

setDefaultTimeout(240_000);

const UNTIL_TOLD_MS = 60_000;
let postgres: TestPostgres;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open({
    startDatabase: async (host) => {
      postgres = await startPostgres(host);
      return postgres.url;
    },
  });
}, 120_000);

afterAll(async () => {
  await shop.close();
  await postgres.stop();
});

const told = (event: string): readonly string[] => eventsOf(shop.mesh.control.log(), event);

/** Log, metric and doctor of a server whose database is gone. */
async function expectToldOf(failuresBefore: number): Promise<void> {
  const { control } = shop.mesh;
  await waitUntil('the log tells it', () => told('database_failed').length > failuresBefore, UNTIL_TOLD_MS);
  expect(told('database_failed').at(-1)).toContain('"reason":"database_unavailable"');
  expect(await control.metric('picket_database_ok')).toBe(0);
  const { exitCode, faults } = await control.examine();
  expect(exitCode).toBe(1);
  expect(faults).toEqual([expect.stringMatching(/^server database fail: The database cannot be reached/)]);
  const refused = await control.picket('token', 'create', 'refused');
  expect(refused.exitCode).toBe(6);
  expect(refused.stderr).toContain('database');
}

/** The server is the same process and does all its work. */
async function expectRecovered(pid: number, name: string, uid: number): Promise<void> {
  const { control } = shop.mesh;
  await waitUntil('the server is well', async () => (await control.examine()).exitCode === 0, UNTIL_TOLD_MS);
  await waitUntil(
    'its metric tells it',
    async () => (await control.metric('picket_database_ok')) === 1,
    UNTIL_TOLD_MS,
  );
  await shop.mesh.register({ path: `/${name}`, on: shop.desk, selectors: [`unix:uid:${uid}`] });
  const isKnown = async (): Promise<boolean> => (await shop.ask(uid, '/invoices')).status === 403;
  await waitUntil('the hosts are told of changes', isKnown, UNTIL_TOLD_MS);
  expect(control.pid).toBe(pid);
}

describe.each(['fast', 'immediate'] as const)('a stop of PostgreSQL, %s,', (mode) => {
  test('that lasts is told by log, metric and doctor; no request is lost, no decision either', async () => {
    const { pid } = shop.mesh.control;
    const before = { failed: told('database_failed').length, recovered: told('database_recovered').length };
    await SteadyLoad.during(shop, async () => {
      await postgres.whileStopped(async () => await expectToldOf(before.failed), mode);
      await expectRecovered(pid, `after-${mode}`, mode === 'fast' ? 7081 : 7083);
    });
    expect(told('database_recovered').length).toBeGreaterThan(before.recovered);
  });

  test('again and again, is got over', async () => {
    const { pid } = shop.mesh.control;
    await SteadyLoad.during(shop, async () => {
      for (let round = 0; round < 4; round++) await postgres.restart(mode);
      await expectRecovered(pid, `after-each-${mode}`, mode === 'fast' ? 7082 : 7084);
    });
  });
});
