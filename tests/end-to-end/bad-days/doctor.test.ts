import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';

/** `picket doctor` on hosts that are well, and on some that are not. Each bad day of this folder asks it too. */

setDefaultTimeout(90_000);

const { web } = SHOP_USERS;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

const passes = async (): Promise<boolean> => (await shop.ask(web, '/invoices')).status === 200;

describe('picket doctor', () => {
  test('finds nothing wrong with hosts that are well, and ends with 0', async () => {
    for (const host of [shop.store, shop.desk, shop.mesh.control]) {
      const { exitCode, faults } = await host.examine();
      expect(faults).toEqual([]);
      expect(exitCode).toBe(0);
    }
    const outcomes = Object.keys((await shop.store.examine()).outcomes);
    for (const check of ['host nftables', 'host sock_diag', 'host rules', 'agent clock', 'agent disk'])
      expect(outcomes).toContain(check);
    const ofServer = Object.keys((await shop.mesh.control.examine()).outcomes);
    for (const check of ['server database', 'server root', 'server authority', 'server disk'])
      expect(ofServer).toContain(check);
  });

  test('prints a table for people, and nothing at all for others than root', async () => {
    const told = await shop.desk.picketOk('doctor');
    expect(told).toMatch(/^ok +agent +server +connected, last heard/m);
    expect(told).toEndWith('All is well.\n');
    const refused = await shop.desk.picket(['doctor'], { uid: web });
    expect([refused.exitCode, refused.stdout]).toEqual([3, '']);
  });

  test('says that there is neither agent nor server on a host without Picket', async () => {
    const env = { PICKET_AGENT_SOCKET: '/nonexistent', PICKET_AGENT_CONFIG: '/nonexistent' };
    const { exitCode, stderr } = await shop.desk.picket(['doctor'], { env });
    expect(exitCode).toBe(4);
    expect(stderr).toContain('neither an agent nor a server');
  });

  test('tells that the server is away and since when, as log and metric do', async () => {
    const { control } = shop.mesh;
    expect(await shop.desk.metric('picket_server_connected')).toBe(1);
    await control.stop('SIGKILL');
    // At first the last connection has merely ended; then no other one can be made.
    const away = /^agent server fail: not connected, last heard 20.*ago: .*(reach|answers)/;
    const { exitCode, faults } = await waitUntil('it is told', async () => {
      const examination = await shop.desk.examine();
      return examination.faults.some((fault) => away.test(fault)) ? examination : undefined;
    });
    expect([exitCode, faults.length]).toEqual([1, 1]);
    expect(await shop.desk.metric('picket_server_connected')).toBe(0);
    expect(await shop.desk.metric('picket_server_last_heard_seconds')).toBeGreaterThan(
      Date.now() / 1000 - 60,
    );
    expect(eventsOf(shop.desk.log(), 'sync_interrupted').length).toBeGreaterThan(0);
    const { outcomes } = await control.examine();
    expect(outcomes).toMatchObject({
      'server running': 'fail',
      'server authority': 'ok',
      'server disk': 'ok',
    });
    await control.start();
    await waitUntil('all is well again', async () => (await shop.desk.examine()).exitCode === 0, 60_000);
  });

  test('tells of a dead agent whether traffic is refused or passes unprotected', async () => {
    await shop.desk.stop('SIGKILL');
    const refused = await shop.desk.examine();
    expect(refused.exitCode).toBe(1);
    expect(refused.faults).toEqual([expect.stringMatching(/^agent running fail: .*Traffic is refused$/)]);
    await shop.desk.host.runOk('nft', 'flush', 'ruleset');
    const { faults } = await shop.desk.examine();
    expect(faults).toEqual([
      expect.stringMatching(/^host rules fail: there are none: traffic passes WITHOUT Picket/),
      expect.stringMatching(/^agent running fail: .*WITHOUT Picket$/),
    ]);
    await shop.desk.start();
    await waitUntil('requests pass again', passes, 30_000);
    // They do before the agent has reached the server.
    await waitUntil('all is well again', async () => (await shop.desk.examine()).faults.length === 0);
  });

  test('names programs with rules of their own, and firewalls that would be in the way', async () => {
    const rules =
      'table inet mine {\nchain in {\ntype filter hook input priority 5; policy drop;\naccept\n}\nchain DOCKER {\n}\n}\n';
    await shop.desk.host.runOk('sh', '-c', `printf '${rules}' | nft -f -`);
    expect((await shop.desk.examine()).faults).toEqual([
      expect.stringMatching(/^host other rules warn: Docker/),
    ]);
    await shop.desk.host.runOk('nft', 'delete', 'table', 'inet', 'mine');
  });
});
