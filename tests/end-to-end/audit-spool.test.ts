import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { accessPage } from '../../shared/protocol/operator.ts';
import { run, runOk } from '../kit/child.ts';
import { asUser } from '../kit/programs.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** The disk under the called host's spool is full while the server is away: what is not on record does not happen. */

setDefaultTimeout(120_000);

const { web, reports } = SHOP_USERS;
/** Room for some hundreds of records, far less than a segment. */
const DISK = 'size=320k,mode=700';
const REQUESTS = 900;
let shop: Shop;
let disk: string;
let isMounted = false;

beforeAll(async () => {
  shop = await Shop.open();
  disk = join(shop.store.folder, 'data/audit');
  await shop.store.stop();
  await runOk(['mount', '-t', 'tmpfs', '-o', DISK, 'tmpfs', disk]);
  isMounted = true;
  await shop.store.start();
  await waitUntil('requests pass', passes, 30_000);
}, 120_000);

afterAll(async () => {
  await shop.store.stop('SIGKILL');
  if (isMounted) await runOk(['umount', disk]);
  await shop.close();
});

async function passes(): Promise<boolean> {
  return (await shop.ask(web, '/invoices')).status === 200;
}

/** Asks for /invoices/NAME-1 and so on, one after another on as few connections as the mesh allows; the status of each. */
async function flood(name: string): Promise<ReadonlyMap<string, number>> {
  const url = `http://${shop.store.host.ipv4}/invoices/${name}-[1-${REQUESTS}]`;
  const format = String.raw`%{http_code} %{url_effective}\n`;
  const command = asUser(web, 'curl', '-s', '-o', '/dev/null', '-w', format, url);
  const { stdout } = await run(shop.desk.host.in(...command), { cwd: '/', withinMs: 90_000 });
  const answers = stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' '));
  return new Map(answers.map(([code, asked = '']) => [new URL(asked).pathname, Number(code)]));
}

function pathsWith(answers: ReadonlyMap<string, number>, status: number): readonly string[] {
  return [...answers].filter(([, code]) => code === status).map(([path]) => path);
}

/** Paths below `prefix` that the called host decided, as the server has them; each as often as it has it. */
async function recordedPaths(prefix: string): Promise<readonly string[]> {
  const paths: string[] = [];
  let cursor: string | null = null;
  do {
    const { items, next }: ReturnType<typeof accessPage.parse> = await shop.mesh.control.picketJson(
      accessPage,
      ...page(cursor),
    );
    for (const { direction, path, decision } of items)
      if (direction === 'inbound' && decision === 'allow' && path?.startsWith(prefix) === true)
        paths.push(path);
    cursor = next;
  } while (cursor !== null);
  return paths;
}

function page(cursor: string | null): readonly string[] {
  const first = ['audit', 'access', '--target', 'spiffe://example.org/invoices', '--limit', '1000'];
  return cursor === null ? first : [...first, '--cursor', cursor];
}

/** Waits until the server has what was answered; it must have each once, and nothing else. */
async function expectRecorded(prefix: string, answered: readonly string[]): Promise<void> {
  await waitUntil(
    'everything is delivered',
    async () => (await recordedPaths(prefix)).length >= answered.length,
    60_000,
  );
  expect((await recordedPaths(prefix)).toSorted()).toEqual(answered.toSorted());
}

async function metric(name: string): Promise<number> {
  const text = await shop.store.host.runOk('curl', '-sf', 'http://127.0.0.1:15020/metrics');
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  if (line === undefined) throw new Error(`There is no metric ${name}`);
  return Number(line.split(' ')[1]);
}

async function auditLine(): Promise<string> {
  const status = await shop.store.picketOk('agent', 'status');
  return status.split('\n').find((line) => line.startsWith('audit:')) ?? '';
}

describe('with the server away and the disk under the spool full', () => {
  test('requests are refused until their decisions can be recorded, and no decision that was recorded is lost', async () => {
    const { control } = shop.mesh;
    expect(await metric('picket_audit_refusing')).toBe(0);
    await control.stop('SIGKILL');
    const seenBefore = await shop.countNginxRequests();
    const answers = await flood('full');
    const answered = pathsWith(answers, 200);
    expect(answered.length).toBeGreaterThan(100);
    expect([...answers.values()].at(-1)).toBe(503);
    expect(answered.length + pathsWith(answers, 503).length).toBe(REQUESTS);
    expect(await shop.countNginxRequests()).toBe(seenBefore + answered.length);

    // A record that is shorter than the others may just have found room.
    await waitUntil('no connection passes', async () => (await shop.query(reports)).exitCode !== 0);
    await waitUntil('no request passes', async () => !(await passes()));
    const refused = await shop.ask(web, '/invoices');
    expect([refused.status, denialBody.parse(JSON.parse(refused.body)).reason]).toEqual([
      503,
      'audit_unavailable',
    ]);
    expect(await metric('picket_audit_refusing')).toBe(1);
    expect(await metric('picket_audit_refused_total')).toBeGreaterThan(100);
    expect(await auditLine()).toContain('requests are refused now: disk_full');
    const said = shop.store
      .log()
      .split('\n')
      .filter((line) => line.includes('audit_records_refused'));
    expect(said.length).toBeGreaterThan(0);
    expect(said.length).toBeLessThan(5);
    for (const line of said) expect(line).toContain('"disk_full"');

    await control.start();
    await waitUntil('requests pass again', passes, 60_000);
    expect(await metric('picket_audit_refusing')).toBe(0);
    expect(await auditLine()).not.toContain('refused now');
    await expectRecorded('/invoices/full-', answered);
  });

  test('an agent that starts refuses as well, and goes on with what the spool held when the server is back', async () => {
    const { control } = shop.mesh;
    await control.stop('SIGKILL');
    const answers = await flood('restart');
    expect([...answers.values()].at(-1)).toBe(503);
    await shop.store.stop('SIGKILL');
    await shop.store.start();
    const first = await waitUntil('the mesh answers', async () => {
      const { status } = await shop.ask(web, '/invoices/after-restart');
      return status === 0 ? undefined : status;
    });
    expect(first).toBe(503);
    await control.start();
    await waitUntil('requests pass again', passes, 60_000);
    await expectRecorded('/invoices/restart-', pathsWith(answers, 200));
    expect(await recordedPaths('/invoices/after-restart')).toEqual([]);
  });
});
