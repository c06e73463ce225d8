import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage, nodePage, policyPage } from '../../shared/protocol/operator.ts';
import { startPostgres, type TestPostgres } from '../kit/postgres.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** The server on its embedded database: restart, backup under load, and restore into another one of each kind. The tests follow each other. */

setDefaultTimeout(120_000);

const { web, reports } = SHOP_USERS;
let shop: Shop;
let backup: string;
let postgres: TestPostgres | undefined;

beforeAll(async () => {
  shop = await Shop.open();
  backup = join(shop.folder, 'backup.ndjson');
}, 120_000);
afterAll(async () => {
  await shop.close();
  await postgres?.stop();
});

const passes = async (): Promise<boolean> =>
  (await shop.ask(web, '/invoices')).status === 200 && (await shop.query(reports)).exitCode === 0;

/** Has a request denied; its decision id. */
async function beDenied(): Promise<string> {
  const { body } = await shop.ask(web, '/refunds', '-X', 'POST');
  return denialBody.parse(JSON.parse(body)).decision_id;
}

async function countRecords(id: string): Promise<number> {
  return (await shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--decision-id', id)).items
    .length;
}

/** Waits until the server has the decision; it has it once. */
async function waitUntilRecorded(id: string): Promise<void> {
  await waitUntil('the decision is recorded', async () => (await countRecords(id)) > 0, 60_000);
  expect(await countRecords(id)).toBe(1);
}

/** When each host attested: a host that proves itself anew has a later time. */
async function attestations(): Promise<readonly (readonly [string, string])[]> {
  const { items } = await shop.mesh.control.picketJson(nodePage, 'node', 'list');
  return items
    .map(({ nodeId, attestedAt }) => [nodeId as string, attestedAt] as const)
    .toSorted(([a], [b]) => a.localeCompare(b));
}

/** Registers somebody on `desk`, and waits until the host has been told: its stream is alive. */
async function expectSync(name: string, uid: number): Promise<void> {
  await shop.mesh.register({ path: `/${name}`, on: shop.desk, selectors: [`unix:uid:${uid}`] });
  await waitUntil(
    `the host hears of ${name}`,
    async () => (await shop.desk.picketOk('agent', 'status', '--json')).includes(`example.org/${name}`),
    60_000,
  );
}

async function restore(file = backup): Promise<{ readonly exitCode: number; readonly stderr: string }> {
  const { control } = shop.mesh;
  return await control.picket('server', 'restore', file, '--config', control.configFile);
}

describe('the server on its embedded database', () => {
  test('keeps everything when it is killed, and no host attests again', async () => {
    const { control } = shop.mesh;
    const id = await beDenied();
    await waitUntilRecorded(id);
    const [before, policies] = [await attestations(), await control.picketOk('policy', 'list', '--json')];
    expect(before).toHaveLength(2);
    await control.stop('SIGKILL');
    expect(await passes()).toBe(true);
    await control.start();
    await waitUntilRecorded(id);
    expect(await control.picketOk('policy', 'list', '--json')).toBe(policies);
    await expectSync('before', 7021);
    expect(await attestations()).toEqual(before);
  });

  test('is backed up while it works', async () => {
    const { control } = shop.mesh;
    const making = new AbortController();
    const made = control.picketOk('server', 'backup', backup).finally(() => making.abort());
    do expect(await passes()).toBe(true);
    while (!making.signal.aborted);
    await made;
    const lines = readFileSync(backup, 'utf8').trimEnd().split('\n');
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ rows: lines.length - 2 });
    expect(readFileSync(backup, 'utf8')).not.toContain('PRIVATE KEY');
  });

  test('is not restored over', async () => {
    const before = await shop.mesh.control.picketOk('entry', 'list', '--json');
    await shop.mesh.control.stop();
    const refused = await restore();
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain('The database is not empty');
    await shop.mesh.control.start();
    expect(await shop.mesh.control.picketOk('entry', 'list', '--json')).toBe(before);
  });
});

describe('picket server restore', () => {
  test('from a backup that is damaged, cut at any place, or another’s says why and leaves the database empty', async () => {
    const { control } = shop.mesh;
    await control.stop();
    control.changeDatabase();
    const text = readFileSync(backup, 'utf8');
    const cuts = [2, 40, Math.floor(text.length / 2), text.length - 100];
    const attempts: readonly (readonly [string, string])[] = [
      ...cuts.map((bytes) => [text.slice(0, text.length - bytes), 'Cannot restore the backup: '] as const),
      [text.replace('unix:uid:7001', 'unix:uid:7003'), 'Cannot restore the backup: '],
      [text.replace('example.org', 'other.example'), 'The backup is of trust domain "other.example"'],
      [text.replace(/"schema":"./, '"schema":"x'), 'another version of the database schema'],
      ['\0\u{1}PGDMP', 'Cannot restore the backup: '],
    ];
    const file = join(shop.folder, 'bad.ndjson');
    for (const [content, reason] of attempts) {
      expect(content).not.toBe(text);
      writeFileSync(file, content);
      const refused = await restore(file);
      expect(refused.exitCode).not.toBe(0);
      expect(refused.stderr).toContain(reason);
    }
    expect((await restore(join(shop.folder, 'none'))).exitCode).not.toBe(0);
    // Not empty any more if one of them had left a row.
    expect(await restore()).toMatchObject({ exitCode: 0 });
  });

  test('into a new embedded database: hosts go on as they are, and bring what the backup does not have', async () => {
    const { control } = shop.mesh;
    const id = await beDenied();
    expect(await passes()).toBe(true);
    await control.start();
    await waitUntilRecorded(id);
    await expectSync('embedded', 7022);
    const after = await attestations();
    expect(after).toHaveLength(2);
    expect(after).toEqual(attestationsIn(backup));
    expect(existsSync(join(control.folder, 'data/database'))).toBe(true);
  });

  test('from the embedded database into PostgreSQL: the same, with a newer policy that the backup does not know', async () => {
    const { control } = shop.mesh;
    await control.picketOk('policy', 'rollback', '1');
    await control.stop();
    postgres = await startPostgres(control.host);
    control.changeDatabase(postgres.url);
    expect(await restore()).toMatchObject({ exitCode: 0 });
    const again = await restore();
    expect([again.exitCode === 0, again.stderr.includes('The database is not empty')]).toEqual([false, true]);
    await control.start();
    expect(await control.picketOk('server', 'status')).toContain('postgresql');
    expect(await passes()).toBe(true);
    await control.picketOk('policy', 'rollback', '1');
    const { items } = await control.picketJson(policyPage, 'policy', 'list');
    const sequence = items.find(({ activeSequence }) => activeSequence !== null)?.activeSequence;
    expect(sequence).toBeGreaterThan(1);
    await expectSync('postgresql', 7023);
    expect(await attestations()).toEqual(attestationsIn(backup));
    await waitUntilRecorded(await beDenied());
    expect(await passes()).toBe(true);
  });
});

/** As `attestations`, as a backup has them. */
function attestationsIn(file: string): readonly (readonly [string, string])[] {
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
    .filter((line): line is [string, Record<string, string>] => Array.isArray(line) && line[0] === 'nodes')
    .map(([, row]) => [row['node_id'] ?? '', new Date(row['attested_at'] ?? '').toISOString()] as const)
    .toSorted(([a], [b]) => a.localeCompare(b));
}
