import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { accessPage } from '../../shared/protocol/operator.ts';
import { startPostgres, type TestPostgres } from '../kit/postgres.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** PostgreSQL goes away under a running server and comes back. */

setDefaultTimeout(120_000);

const { web, reports } = SHOP_USERS;
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

/** Asks over and over while `work` goes on; how often it was answered, and what else came. */
async function askThroughout(work: Promise<unknown>): Promise<{ passed: number; failed: string[] }> {
  const seen = { passed: 0, failed: [] as string[] };
  const done = new AbortController();
  const end = work.finally(() => done.abort());
  do {
    const [{ status, error }, { exitCode, stderr }] = [
      await shop.ask(web, '/invoices'),
      await shop.query(reports),
    ];
    if (status === 200 && exitCode === 0) seen.passed += 1;
    else seen.failed.push(`${status} ${error} ${exitCode} ${stderr}`);
  } while (!done.signal.aborted);
  await end;
  return seen;
}

async function beDenied(): Promise<string> {
  const { body } = await shop.ask(web, '/refunds', '-X', 'POST');
  return denialBody.parse(JSON.parse(body)).decision_id;
}

/** Waits until the server has each decision; it has it once. */
async function expectRecorded(ids: readonly string[]): Promise<void> {
  const { control } = shop.mesh;
  for (const id of ids) {
    const find = async () =>
      (await control.picketJson(accessPage, 'audit', 'access', '--decision-id', id)).items.length;
    await waitUntil('the decision is recorded', async () => (await find()) > 0, 60_000);
    expect(await find()).toBe(1);
  }
}

async function expectSync(name: string, uid: number): Promise<void> {
  await shop.mesh.register({ path: `/${name}`, on: shop.desk, selectors: [`unix:uid:${uid}`] });
  await waitUntil(
    `the host hears of ${name}`,
    async () => (await shop.desk.picketOk('agent', 'status', '--json')).includes(`example.org/${name}`),
    60_000,
  );
}

describe('PostgreSQL under a running server', () => {
  test('may be restarted again and again: no request is lost, and the server goes on by itself', async () => {
    const ids: string[] = [];
    const restarts = (async () => {
      for (let round = 0; round < 3; round++) {
        await postgres.restart();
        ids.push(await beDenied());
      }
    })();
    const { passed, failed } = await askThroughout(restarts);
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(3);
    await expectRecorded(ids);
    await expectSync('after-restarts', 7031);
  });

  test('may be gone for a while: operators are told, hosts keep what they decide, and all is made up for', async () => {
    const { control } = shop.mesh;
    const ids: string[] = [];
    const outage = postgres.whileStopped(async () => {
      for (let round = 0; round < 10; round++) ids.push(await beDenied());
      const refused = await control.picket('entry', 'list');
      expect(refused.exitCode).not.toBe(0);
      expect(refused.stderr).toContain('database');
    });
    const { passed, failed } = await askThroughout(outage);
    expect(failed).toEqual([]);
    expect(passed).toBeGreaterThan(0);
    await waitUntil(
      'operators are served again',
      async () => (await control.picket('entry', 'list')).exitCode === 0,
      30_000,
    );
    await expectRecorded(ids);
    await expectSync('after-outage', 7032);
  });
});
