import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { run } from '../kit/child.ts';
import { curl } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** The rules of two running agents as other programs meet them, and what the agents tell of themselves on loopback. */

setDefaultTimeout(90_000);

const { web, nobody } = SHOP_USERS;
/** A user whose connections leave as they are. */
const EXCLUDED_USER = 7009;
let shop: Shop;

beforeAll(async () => {
  const capture = { exclude: { users: [EXCLUDED_USER], inbound_ports: [9022] } };
  shop = await Shop.open({ settings: { capture } });
}, 120_000);
afterAll(async () => await shop.close());

/** What a listener of `protocol` on a host printed after somebody elsewhere sent it a line. */
async function receive(options: { readonly udp: boolean; readonly port: number }): Promise<string> {
  const { udp, port } = options;
  const kind = udp ? '-u' : '-N';
  const listen = shop.outsider.in('timeout', '3', 'nc', udp ? '-ul' : '-l', '-p', String(port));
  const heard = run(listen);
  const send = shop.desk.host.in(
    'sh',
    '-c',
    `echo hello | timeout 1 nc ${kind} -w 1 ${shop.outsider.ipv4} ${port}`,
  );
  await waitUntil('it listens', async () => {
    const sockets = await shop.outsider.runOk('ss', '-Hnl', udp ? '-u' : '-t', `sport = :${port}`);
    return sockets.trim() !== '';
  });
  await run(send);
  return (await heard).stdout;
}

describe('the rules of an agent', () => {
  test('let no UDP out that is not allowed', async () => {
    expect(await receive({ udp: true, port: 9053 })).toBe('');
  });

  test('leave the connections of an excluded user as they are, and nobody else’s', async () => {
    const ask = async (uid: number): Promise<number> =>
      (await curl(shop.desk.host, { uid, args: [`http://${shop.outsider.ipv4}:9080/`, '-m', '2'] })).status;
    const serve = 'while :; do printf "HTTP/1.0 200 OK\\r\\n\\r\\n" | nc -l -p 9080 -q 0; done';
    const server = run(shop.outsider.in('timeout', '8', 'sh', '-c', serve));
    await waitUntil('it passes', async () => (await ask(EXCLUDED_USER)) === 200);
    expect(await ask(nobody)).toBe(0);
    await server;
  });

  test('are put back when somebody flushes the firewall, which status and metrics tell', async () => {
    await shop.desk.host.runOk('nft', 'flush', 'ruleset');
    await waitUntil(
      'the rules are back',
      async () => {
        const rules = await run(shop.desk.host.in('nft', 'list', 'table', 'inet', 'picket'));
        return rules.exitCode === 0;
      },
      40_000,
    );
    await waitUntil('it is told', async () =>
      /"repairs":\s*[1-9]/.test(await shop.desk.picketOk('agent', 'status', '--json')),
    );
    expect(shop.desk.log()).toContain('capture_rules_changed');
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
  });

  test('are printed by capture show', async () => {
    expect(await shop.desk.picketOk('agent', 'capture', 'show')).toContain('table inet picket');
  });
});

describe('what an agent tells of itself', () => {
  const metrics = async (): Promise<string> =>
    await shop.desk.host.runOk('curl', '-sf', 'http://127.0.0.1:15020/metrics');

  test('is served on loopback', async () => {
    await shop.ask(web, '/refunds', '-X', 'POST');
    const text = await metrics();
    for (const name of [
      'picket_decisions_total',
      'picket_certificate_age_seconds',
      'picket_mesh_handshakes_total',
      'picket_audit_spool_records',
      'picket_capture_repairs_total 1',
      'picket_server_connected 1',
    ])
      expect(text).toContain(name);
  });

  test('is not served to other hosts', async () => {
    for (const port of [15020, 15021]) {
      const url = `http://${shop.desk.host.ipv4}:${port}/metrics`;
      const answer = await run(shop.outsider.in('curl', '-sS', '-m', '2', url));
      expect(answer.exitCode).not.toBe(0);
    }
  });

  test('includes its identity, the policy and the rules', async () => {
    const status: unknown = JSON.parse(await shop.desk.picketOk('agent', 'status', '--json'));
    expect(status).toMatchObject({
      agent: { spiffeId: 'spiffe://example.org/picket/agent/join_token/desk' },
      server: { isConnected: true },
      policy: { version: 1 },
      capture: { mode: 'nftables', isIntact: true },
    });
  });
});
