import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { asUser, curl } from '../kit/programs.ts';
import { run } from '../kit/child.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';

setDefaultTimeout(60_000);

/** Every host of a test network has the same addresses each time: the store is the second. */
const FORWARD = { listen: '127.0.0.1:9080', to: '10.9.0.2:80' };

let shop: Shop;

beforeAll(async () => {
  const mesh = { reuse_connections: false, resume_sessions: false };
  shop = await Shop.open({ settings: { forwards: [FORWARD], mesh } });
}, 120_000);

afterAll(async () => {
  await shop.close();
});

async function askByForward(uid: number, path: string, ...args: string[]): ReturnType<typeof curl> {
  return await curl(shop.desk.host, { uid, args: [...args, `http://${FORWARD.listen}${path}`] });
}

test('a program that uses a forward is asked for its identity, and what it asks is decided', async () => {
  const { web, nobody } = SHOP_USERS;
  const answer = await askByForward(web, '/invoices');
  expect(answer).toMatchObject({ status: 200 });
  expect(answer.body).toContain('URI=spiffe://example.org/web');
  expect(await askByForward(web, '/refunds', '-X', 'POST')).toMatchObject({ status: 403 });
  expect(await askByForward(nobody, '/invoices')).toMatchObject({ status: 0 });
  expect(await shop.why(nobody)).toContain('caller_unidentified');
});

test('a forward is not reached from another host', async () => {
  const url = `http://${shop.desk.host.ipv4}:9080/invoices`;
  const answer = await run(shop.outsider.in(...asUser(SHOP_USERS.web, 'curl', '-sS', '-m', '5', url)));
  expect(answer.exitCode).not.toBe(0);
});

test('without reuse and resumption every connection has a full handshake of its own', async () => {
  const count = async (outcome: string): Promise<number> => {
    const metrics = await shop.desk.host.runOk('curl', '-s', 'http://127.0.0.1:15020/metrics');
    const line = new RegExp(
      `^picket_mesh_handshakes_total\\{.*side="caller".*outcome="${outcome}".*\\} (\\d+)`,
      'm',
    );
    return Number(line.exec(metrics)?.[1] ?? 0);
  };
  const before = await count('full');
  for (let i = 0; i < 3; i++) expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  expect(await count('full')).toBe(before + 3);
  expect(await count('resumed')).toBe(0);
});
