import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { run } from '../kit/child.ts';
import { asUser, curl } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** Connections between agents that stand ready before a program asks for them. */

setDefaultTimeout(60_000);

const SPARES = 2;
/** How many connections of programs make a pair of workloads busy. */
const BUSY_USES = 3;
const MESH_PORT = 15_008;
/** Two connections that are open at the same time until both were answered. */
const TWO_AT_ONCE = `exec 3<>/dev/tcp/$1/80 4<>/dev/tcp/$1/80
for fd in 3 4; do printf 'GET /invoices HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n' >&$fd; done
for fd in 3 4; do read -r -t 30 -u $fd line; echo "$line"; done`;

let shop: Shop;

// Every handshake is a full one, and is counted as such.
beforeAll(async () => {
  shop = await Shop.open({ settings: { mesh: { spares: SPARES, resume_sessions: false } } });
}, 120_000);
afterAll(async () => await shop.close());

interface Counts {
  readonly full: number;
  readonly made: number;
  readonly taken: number;
  readonly failed: number;
}

/** What the calling agent has counted, all at one moment. */
async function counts(): Promise<Counts> {
  const text = await shop.desk.host.runOk('curl', '-sf', 'http://127.0.0.1:15020/metrics');
  const count = (series: string): number => {
    const line = text.split('\n').find((each) => each.startsWith(`${series} `));
    return Number(line?.split(' ').at(-1) ?? 0);
  };
  const spares = (what: string): number => count(`picket_mesh_spares_total{what="${what}"}`);
  return {
    full: count('picket_mesh_handshakes_total{side="caller",outcome="full"}'),
    made: spares('made'),
    taken: spares('taken'),
    failed: spares('failed'),
  };
}

/** Connections to the other agent at its IPv6 address, which nothing but these tests calls. */
async function countMeshConnections(): Promise<number> {
  const filter = ['dst', `[${shop.store.host.ipv6}]:${MESH_PORT}`];
  const lines = await shop.desk.host.runOk('ss', '-Htn', 'state', 'established', ...filter);
  return lines.split('\n').filter((line) => line !== '').length;
}

async function ask(uid: number): Promise<number> {
  const url = `http://[${shop.store.host.ipv6}]/invoices`;
  return (await curl(shop.desk.host, { uid, args: [url] })).status;
}

test('nobody who is refused has any', async () => {
  for (let i = 0; i < 2 * BUSY_USES; i++) expect(await ask(SHOP_USERS.nobody)).toBe(0);
  expect(await countMeshConnections()).toBe(0);
});

test('a burst after a pause waits for no handshake', async () => {
  const atFirst = await counts();
  for (let i = 0; i < BUSY_USES; i++) expect(await ask(SHOP_USERS.web)).toBe(200);
  // The last connection may be on its way back to the pool: two others are there.
  const ready = await waitUntil('spares stand ready', async () => {
    const now = await counts();
    const open = await countMeshConnections();
    return open > SPARES && now.full - atFirst.full === open && now;
  });
  expect(ready.made).toBeGreaterThan(atFirst.made);
  const { web } = SHOP_USERS;
  const script = asUser(web, 'bash', '-c', TWO_AT_ONCE, 'bash', shop.store.host.ipv6);
  const { stdout } = await run(shop.desk.host.in(...script), { cwd: '/' });
  expect(stdout.trim().split(/\s*\n/)).toEqual(['HTTP/1.1 200 OK', 'HTTP/1.1 200 OK']);
  const after = await counts();
  expect(after.taken).toBeGreaterThan(ready.taken);
  // All handshakes of now are of spares, which stand behind the burst; each is counted before it is a spare.
  const { failed } = await waitUntil('no handshake was anything else', async () => {
    const now = await counts();
    return now.full - ready.full === now.made - ready.made && now;
  });
  expect(failed).toBe(0);
});

test('they are made good after a burst, and stay few however many come one after another', async () => {
  await waitUntil('they are made good', async () => (await countMeshConnections()) >= SPARES);
  for (let i = 0; i < 2 * BUSY_USES; i++) expect(await ask(SHOP_USERS.web)).toBe(200);
  // At most what two at once left, and what stands ready beside each.
  expect(await countMeshConnections()).toBeLessThanOrEqual(2 + 2 * SPARES);
});
