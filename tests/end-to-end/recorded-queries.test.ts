import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decisionsBelow } from '../kit/access-records.ts';
import { run } from '../kit/child.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** What becomes of the query of a request, which may hold a secret: in the agent itself and in workers, with real programs and the compiled binary. */

setDefaultTimeout(120_000);

const INVOICES = 'spiffe://example.org/invoices';
/** Of one test alone: what another one had written in full may still be on the disk. */
const secretOf = (name: string): string => `hush-${name}`;
const queryOf = (name: string): string => `?token=${secretOf(name)}&${secretOf(name)}&empty=`;

let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop?.close());

/** Replaces the agent of the called side by one with other settings. */
async function startStore(env: Readonly<Record<string, string>>): Promise<void> {
  await shop.store.stop();
  await shop.store.start({ env });
  await waitUntil(
    'requests pass',
    async () => (await shop.ask(SHOP_USERS.web, '/invoices')).status === 200,
    60_000,
  );
}

/** Asks for what is allowed and for what is not; the body of the denial. */
async function askBoth(name: string): Promise<string> {
  expect((await shop.ask(SHOP_USERS.web, `/invoices/${name}${queryOf(name)}`)).status).toBe(200);
  const denied = await shop.ask(SHOP_USERS.web, `/refunds/${name}${queryOf(name)}`, '-X', 'POST');
  expect(denied.status).toBe(403);
  return denied.body;
}

/** The paths that the server has of them in the end. */
async function pathsOf(name: string): Promise<readonly (string | null)[]> {
  return await waitUntil('both are at the server', async () => {
    const { control } = shop.mesh;
    const found = await Promise.all(
      ['/invoices/', '/refunds/'].map(async (of) => await decisionsBelow(control, INVOICES, of + name)),
    );
    const paths = found.flat().map(({ path }) => path);
    return paths.length >= 2 && paths;
  });
}

/** What the agent of the called side has in its spool, whichever process wrote it. */
function readSpool(): string {
  const folder = join(shop.store.folder, 'data/audit');
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('\n');
}

describe.each([1, 2])('an agent with proxy.workers: %p', (workers) => {
  const settings = { PICKET_AGENT__PROXY__WORKERS: String(workers) };

  test('keeps the names of parameters alone, from the spool on, and tells nobody a value', async () => {
    const name = `names-${workers}`;
    await startStore(settings);
    await shop.mesh.control.stop();
    const body = await askBoth(name);
    const shown = '?token=*&*&*';
    const spool = await waitUntil('both are in the spool', () => {
      const text = readSpool();
      const isThere = ['invoices', 'refunds'].every((of) => text.includes(`/${of}/${name}${shown}`));
      return isThere && text;
    });
    const { stdout: metrics } = await run(shop.store.host.in('curl', '-s', 'http://127.0.0.1:15020/metrics'));
    expect(metrics).toContain('picket_decisions_total');
    const why = await shop.desk.picketOk('why', '--last', '1000', '--json');
    for (const text of [spool, body, metrics, why, shop.store.log(), shop.desk.log()])
      expect(text.includes(secretOf(name))).toBe(false);
    await shop.mesh.control.start();
    expect(await pathsOf(name)).toEqual([`/invoices/${name}${shown}`, `/refunds/${name}${shown}`]);
  });

  test.each([
    ['full', queryOf],
    ['none', () => ''],
  ] as const)('keeps of a query what audit.queries: %s says', async (queries, shownOf) => {
    await startStore({ ...settings, PICKET_AGENT__AUDIT__QUERIES: queries });
    const name = `${queries}-${workers}`;
    await askBoth(name);
    const shown = shownOf(name);
    expect(await pathsOf(name)).toEqual([`/invoices/${name}${shown}`, `/refunds/${name}${shown}`]);
  });
});
