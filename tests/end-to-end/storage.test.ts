import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { accessPage, policyPage } from '../../shared/protocol/operator.ts';
import { entry } from '../../shared/protocol/registration.ts';
import { startPostgres, type TestPostgres } from '../kit/postgres.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** The server on PostgreSQL, its backup, and what becomes of a mesh whose server is restored. The tests follow each other. */

setDefaultTimeout(90_000);

const { web } = SHOP_USERS;
const entryList = z.object({ items: z.array(entry) });
let postgres: TestPostgres;
let shop: Shop;
let backup: string;

beforeAll(async () => {
  shop = await Shop.open({
    startDatabase: async (host) => {
      postgres = await startPostgres(host);
      return postgres.url;
    },
  });
  backup = join(shop.folder, 'backup.ndjson');
}, 120_000);
afterAll(async () => {
  await shop.close();
  await postgres.stop();
});

const passes = async (): Promise<boolean> => (await shop.ask(web, '/invoices')).status === 200;

/** Has a request denied; its decision id. */
async function beDenied(): Promise<string> {
  const { body } = await shop.ask(web, '/refunds', '-X', 'POST');
  return denialBody.parse(JSON.parse(body)).decision_id;
}

async function waitUntilRecorded(id: string): Promise<void> {
  const { control } = shop.mesh;
  await waitUntil(
    'the decision is recorded',
    async () =>
      (await control.picketJson(accessPage, 'audit', 'access', '--decision-id', id)).items.length === 1,
    60_000,
  );
}

describe('the server on PostgreSQL', () => {
  test('keeps entries, policies and records over its own restart', async () => {
    const { control } = shop.mesh;
    const id = await beDenied();
    await waitUntilRecorded(id);
    const entries = await control.picketJson(entryList, 'entry', 'list');
    const policies = await control.picketJson(policyPage, 'policy', 'list');
    expect(await control.stop()).toBe(0);
    await control.start();
    expect(await control.picketJson(entryList, 'entry', 'list')).toEqual(entries);
    expect(await control.picketJson(policyPage, 'policy', 'list')).toEqual(policies);
    await waitUntilRecorded(id);
    expect(await passes()).toBe(true);
  });

  test('goes on after the database was restarted, and requests pass throughout', async () => {
    const restart = postgres.restart();
    expect(await passes()).toBe(true);
    await restart;
    expect(await passes()).toBe(true);
    await waitUntilRecorded(await beDenied());
    await shop.mesh.register({ path: '/late', on: shop.desk, selectors: ['unix:uid:7011'] });
  });
});

describe('picket server', () => {
  test('backup writes one moment while all goes on, and never over a file', async () => {
    const { control } = shop.mesh;
    await control.picketOk('server', 'backup', backup);
    expect(await passes()).toBe(true);
    const again = await control.picket('server', 'backup', backup);
    expect(again.exitCode).not.toBe(0);
    expect(again.stderr).toContain(backup);
  });

  test('restore refuses a database that is not empty', async () => {
    const { control } = shop.mesh;
    const before = await control.picketOk('entry', 'list', '--json');
    const refused = await control.picket('server', 'restore', backup, '--config', control.configFile);
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain('not empty');
    expect(await control.picketOk('entry', 'list', '--json')).toBe(before);
  });

  test('restore refuses what is damaged, cut or no backup, and leaves the database empty', async () => {
    const { control } = shop.mesh;
    const id = await beDenied();
    await waitUntilRecorded(id);
    await control.stop();
    control.changeDatabase();
    const text = readFileSync(backup, 'utf8');
    const lines = text.trimEnd().split('\n');
    const damaged = {
      altered: text.replace('spiffe://example.org/web', 'spiffe://example.org/wep'),
      cut: `${lines.slice(0, -1).join('\n')}\n`,
      shortened: `${[...lines.slice(0, -3), lines.at(-1)].join('\n')}\n`,
      nothing: '',
      foreign: '{"hello": "world"}\n',
    };
    for (const [name, content] of Object.entries(damaged)) {
      const file = join(shop.folder, `${name}.ndjson`);
      writeFileSync(file, content);
      const refused = await control.picket('server', 'restore', file, '--config', control.configFile);
      expect([name, refused.exitCode === 0]).toEqual([name, false]);
      expect(`${name}: ${refused.stderr}`).toMatch(/backup/i);
    }
    await control.picketOk('server', 'restore', backup, '--config', control.configFile);
    await control.start();
    // What was decided after the backup comes from the host's spool once more, with the next decision.
    expect(await passes()).toBe(true);
    await waitUntilRecorded(id);
  });

  test('a restored server, on the other database too, goes on with the hosts that it knew', async () => {
    const { control } = shop.mesh;
    expect(await passes()).toBe(true);
    await control.picketOk('policy', 'rollback', '1');
    const { items } = await control.picketJson(entryList, 'entry', 'list');
    expect(items.map(({ spiffeId }) => spiffeId as string)).toContain('spiffe://example.org/late');
    await shop.mesh.register({ path: '/later', on: shop.desk, selectors: ['unix:uid:7012'] });
    // It may not try again to reach the server before half a minute is over.
    await waitUntil(
      'a host takes the new entry',
      async () =>
        (await shop.desk.picketOk('agent', 'status', '--json')).includes('spiffe://example.org/later'),
      60_000,
    );
    expect(shop.desk.log().split('"agent_attested"').length).toBeLessThanOrEqual(2);
  });
});
