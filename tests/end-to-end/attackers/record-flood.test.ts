import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { accessPage } from '../../../shared/protocol/operator.ts';
import { testAccessRecord, testFrames, testSpool } from '../../kit/audit-batches.ts';
import { startPostgres, type TestPostgres } from '../../kit/postgres.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { AgentPort } from './agent-port.ts';

/** One host has more denied than the server wants to store: it waits, and nobody else does. */

setDefaultTimeout(240_000);
const PER_SECOND = 20;
/** A minute's worth at once, and the batch with which that was used up. */
const AT_ONCE = PER_SECOND * 60 + 1000;
/** Far more than that. */
const REQUESTS = 8000;
const PATH = '/nothing/here';
/** Has so many requests for a path denied as fast as they are answered. */
const FLOOD = `
import socket, sys, threading
host, path, count = sys.argv[1:]
connection = socket.create_connection((host, 80))
request = f"GET {path} HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n".encode()
threading.Thread(target=connection.sendall, args=(request * int(count),), daemon=True).start()
denied, last = 0, b""
while denied < int(count):
    piece = connection.recv(1 << 16)
    if piece == b"": sys.exit(f"cut after {denied}")
    denied += (last + piece).count(b"HTTP/1.1 403")
    last = piece[-11:]
`;
const heldBack = z.object({
  reason: z.literal('audit_held_back'),
  details: z.object({ retry_after_ms: z.number().positive() }),
});
const whyAnswer = z.object({ denials: z.array(z.object({ record: z.object({ decision_id: z.string() }) })) });

let shop: Shop;
let database: TestPostgres;
beforeAll(async () => {
  shop = await Shop.open({
    serverSettings: { audit: { denials_per_second: PER_SECOND } },
    startDatabase: async (host) => {
      database = await startPostgres(host);
      return database.url;
    },
  });
}, 120_000);
afterAll(async () => {
  await shop.close();
  await database.stop();
});

/** How many of the flood are on record. */
async function countStored(): Promise<number> {
  const sql = `select count(*) from access_log where decision = 'deny' and path = '${PATH}'`;
  return Number(await shop.mesh.control.host.runOk('psql', database.url, '-Atc', sql));
}

/** How long the server takes to have what `desk` denies, in milliseconds. */
async function timeOfOther(): Promise<number> {
  const { nobody } = SHOP_USERS;
  const startedMs = performance.now();
  await shop.query(nobody);
  const { denials } = whyAnswer.parse(JSON.parse(await shop.why(nobody)));
  const id = denials[0]?.record.decision_id ?? '';
  await waitUntil(
    'the server has it',
    async () => {
      const { control } = shop.mesh;
      const page = await control.picketJson(accessPage, 'audit', 'access', '--decision-id', id);
      return page.items.length === 1;
    },
    60_000,
  );
  return performance.now() - startedMs;
}

describe('a stranger who has so much denied by one host that the server holds its records back', () => {
  test('delays no other host, fills the database no faster than he may, and takes no record away', async () => {
    const { control } = shop.mesh;
    const { store } = shop;
    expect((await control.examine()).outcomes['server records']).toBe('ok');
    const startedMs = performance.now();
    await shop.outsider.runOk('/usr/bin/python3', '-c', FLOOD, store.host.ipv4, PATH, String(REQUESTS));
    await waitUntil('it is held back', async () => (await store.metric('picket_audit_held_back')) === 1);
    for (let i = 0; i < 3; i += 1) expect(await timeOfOther()).toBeLessThan(15_000);
    expect(await control.metric('picket_audit_hosts_held_back')).toBe(1);
    expect(await control.metric('picket_audit_batches_held_back_total{why="denials"}')).toBeGreaterThan(0);
    expect((await control.examine()).faults.join('\n')).toContain('store (denials)');
    expect((await store.examine()).outcomes['agent spool']).toBe('warn');
    expect(await store.picketOk('agent', 'status')).toContain('the server holds them back');
    expect(await control.picketOk('server', 'status')).toMatch(/hosts held back: +1\n/);
    expect(eventsOf(control.log(), 'audit_held_back')).toHaveLength(1);
    expect(eventsOf(store.log(), 'audit_held_back')).toHaveLength(1);
    expect(eventsOf(store.log(), 'audit_shipping_failed')).toEqual([]);

    const stored = await countStored();
    const seconds = (performance.now() - startedMs) / 1000;
    expect(stored).toBeGreaterThan(PER_SECOND * 60 - 1000);
    expect(stored).toBeLessThan(AT_ONCE + PER_SECOND * seconds);

    await control.stop();
    await control.start({ env: { PICKET_SERVER__AUDIT__DENIALS_PER_SECOND: 'null' } });
    await waitUntil(
      'the server has everything',
      async () => (await store.metric('picket_audit_spool_records')) === 0,
      180_000,
    );
    expect(await store.metric('picket_audit_refused_total')).toBe(0);
    expect(await countStored()).toBe(REQUESTS);
    expect(await store.metric('picket_audit_held_back')).toBe(0);
  });
});

describe('an agent that sends records of its own invention without end', () => {
  test('is told to wait, however many spools it says that it has, and how long', async () => {
    const { control } = shop.mesh;
    await control.stop();
    await control.start();
    const port = new AgentPort(control, shop.outsider);
    const rogue = await port.join('rogue');
    const text = JSON.stringify(testAccessRecord({ decision: 'deny', path: '/invented' }));
    const frames = testFrames(testSpool(Array.from({ length: 1000 }, () => text)));
    const post = async () =>
      await port.postAtOnce(`/v1/audit/frames?epoch=${randomUUID().replaceAll('-', '')}`, frames, {
        as: rogue,
      });
    const answers = [await post(), await post(), await post(), await post()];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429, 429]);
    for (const { body } of answers.slice(2)) heldBack.parse(body);
    expect((await control.examine()).faults.join('\n')).toContain('rogue (denials)');
    expect(await timeOfOther()).toBeLessThan(15_000);
  });
});
