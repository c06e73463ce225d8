import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { Child, run } from '../kit/child.ts';
import type { TestHost } from '../kit/netns.ts';
import { curl, startNginx } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** The rules of two running agents as other programs meet them, and what the agents tell of themselves on loopback. */

setDefaultTimeout(90_000);

const { web, nobody } = SHOP_USERS;
/** A user whose connections leave as they are. */
const EXCLUDED_USER = 7009;
/** A port of other hosts to which connections leave as they are, and one of this host at which they arrive so. */
const OUTBOUND_PORT = 9081;
const INBOUND_PORT = 9022;
/** UDP may leave to this port of the host without Picket, as to a DNS server. */
const UDP_PORT = 9053;
/** Every host of a test network has the same addresses each time: the first one runs the server and no agent, the fourth is the outsider. */
const EXCLUDED_ADDRESSES = ['10.9.0.1/32', 'fd09::1/128'];
const OUTSIDER = '10.9.0.4';

describe.each(['nftables', 'ebpf'] as const)('capture by %s', (backend) => {
  let shop: Shop;
  let stack: AsyncDisposableStack;

  beforeAll(async () => {
    stack = new AsyncDisposableStack();
    const exclude = {
      users: [EXCLUDED_USER],
      outbound_ports: [OUTBOUND_PORT],
      outbound_addresses: EXCLUDED_ADDRESSES,
      inbound_ports: [INBOUND_PORT],
    };
    const capture = { exclude, allow_udp: [{ address: OUTSIDER, port: UDP_PORT }] };
    shop = await Shop.open({ backend, settings: { capture } });
    stack.defer(async () => await shop.close());
    await serve(shop.outsider, 80, OUTBOUND_PORT);
    await serve(shop.mesh.control.host, 80);
  }, 120_000);
  afterAll(async () => await stack.disposeAsync());

  /** nginx at ports of a host without agent. */
  async function serve(host: TestHost, ...ports: readonly number[]): Promise<void> {
    const nginx = await startNginx(host, {
      folder: join(shop.folder, `nginx-${host.name}`),
      locations: 'location / { return 200; }',
      listen: ports.flatMap((port) => [`${port}`, `[::]:${port}`]),
    });
    stack.defer(async () => void (await nginx.stop()));
  }

  /** The status that a user on `desk` gets from nginx on another host; 0 for no answer. */
  async function statusAt(address: string, port: number, uid: number = web): Promise<number> {
    const host = address.includes(':') ? `[${address}]` : address;
    return (await curl(shop.desk.host, { uid, args: [`http://${host}:${port}/`, '-m', '2'] })).status;
  }

  interface Sending {
    readonly from: TestHost;
    readonly to: TestHost;
    readonly port: number;
    readonly isUdp?: boolean;
  }

  /** Starts a listener on one host, and has root on another send it a line. What it hears stands in its log. */
  async function send({ from, to, port, isUdp = false }: Sending): Promise<Child> {
    const listener = new Child({
      command: to.in('nc', isUdp ? '-ul' : '-l', '-p', `${port}`),
      logFile: join(shop.folder, `heard-at-${port}-${crypto.randomUUID()}.log`),
    });
    stack.defer(async () => void (await listener.stop()));
    await listener.ready('it listens', async () => {
      const sockets = await to.runOk('ss', '-Hnl', isUdp ? '-u' : '-t', `sport = :${port}`);
      return sockets.trim() !== '';
    });
    // What is dropped is tried for a second.
    await run(from.in('nc', isUdp ? '-u' : '-N', '-w', '1', to.ipv4, `${port}`), { stdin: 'hello\n' });
    return listener;
  }

  async function expectHeard(sending: Sending): Promise<void> {
    const listener = await send(sending);
    await waitUntil('it is heard', () => listener.log() === 'hello\n');
  }

  async function expectUnheard(sending: Sending): Promise<void> {
    const listener = await send(sending);
    await listener.stop();
    expect(listener.log()).toBe('');
  }

  describe('the rules of an agent', () => {
    test('let no UDP out but to what is allowed', async () => {
      const sending = { from: shop.desk.host, to: shop.outsider, isUdp: true };
      await expectHeard({ ...sending, port: UDP_PORT });
      await expectUnheard({ ...sending, port: UDP_PORT + 1 });
    });

    test('leave the connections of an excluded user as they are, and nobody else’s', async () => {
      for (const address of [shop.outsider.ipv4, shop.outsider.ipv6]) {
        expect(await statusAt(address, 80, EXCLUDED_USER)).toBe(200);
        expect(await statusAt(address, 80, nobody)).toBe(0);
      }
    });

    test('leave connections to an excluded port as they are, and to no other', async () => {
      for (const address of [shop.outsider.ipv4, shop.outsider.ipv6]) {
        expect(await statusAt(address, OUTBOUND_PORT)).toBe(200);
        expect(await statusAt(address, 80)).toBe(0);
      }
    });

    test('leave connections to an excluded address as they are, and to no other', async () => {
      const excluded = shop.mesh.control.host;
      for (const [address, other] of [
        [excluded.ipv4, shop.outsider.ipv4],
        [excluded.ipv6, shop.outsider.ipv6],
      ] as const) {
        expect(await statusAt(address, 80)).toBe(200);
        expect(await statusAt(other, 80)).toBe(0);
      }
    });

    test('take in at an excluded port of the host what comes in plaintext, and at no other', async () => {
      const sending = { from: shop.outsider, to: shop.store.host };
      await expectHeard({ ...sending, port: INBOUND_PORT });
      await expectUnheard({ ...sending, port: INBOUND_PORT + 1 });
    });

    test('open no other host of the mesh: what leaves for it as it is meets the rules there', async () => {
      const sending = { from: shop.desk.host, to: shop.store.host };
      await expectUnheard({ ...sending, port: OUTBOUND_PORT });
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
        capture: { mode: backend, isIntact: true },
      });
    });
  });
});
