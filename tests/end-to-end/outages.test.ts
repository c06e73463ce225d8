import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { accessPage } from '../../shared/protocol/operator.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** What goes on, and what does not, when an agent or the server is gone. The order of the tests is free: each leaves all running. */

setDefaultTimeout(90_000);

const { web, reports } = SHOP_USERS;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

const passes = async (): Promise<boolean> => (await shop.ask(web, '/invoices')).status === 200;

describe('with the server gone', () => {
  test('requests go on, decisions go on, and what was decided reaches the server when it is back', async () => {
    const { control } = shop.mesh;
    await control.stop('SIGKILL');
    expect(await passes()).toBe(true);
    expect((await shop.query(reports)).exitCode).toBe(0);
    const denied = await shop.ask(web, '/refunds', '-X', 'POST');
    expect(denied.status).toBe(403);
    const { decision_id: id } = denialBody.parse(JSON.parse(denied.body));
    await control.start();
    const found = await waitUntil(
      'the decision has reached the server',
      async () => (await control.picketJson(accessPage, 'audit', 'access', '--decision-id', id)).items[0],
      60_000,
    );
    expect(found).toMatchObject({ decision: 'deny', path: '/refunds' });
  });

  test('an agent that starts goes on from its sealed state', async () => {
    const { control } = shop.mesh;
    await control.stop('SIGKILL');
    expect(await shop.store.stop('SIGTERM')).toBe(0);
    await shop.desk.stop('SIGKILL');
    await shop.store.start();
    await shop.desk.start();
    await waitUntil('requests pass', passes, 30_000);
    expect((await shop.ask(web, '/refunds', '-X', 'POST')).status).toBe(403);
    await control.start();
  });
});

describe('with an agent gone', () => {
  test('on the called side nothing passes, neither from the mesh nor in plaintext', async () => {
    await shop.store.stop('SIGKILL');
    expect((await shop.ask(web, '/invoices')).status).not.toBe(200);
    expect((await shop.query(reports)).exitCode).not.toBe(0);
    const requests = await shop.countNginxRequests();
    const outside = await shop.outsider.runOk(
      'sh',
      '-c',
      `nc -w 2 ${shop.store.host.ipv4} 80 </dev/null || echo refused`,
    );
    expect(outside).toContain('refused');
    expect(await shop.countNginxRequests()).toBe(requests);
    await shop.store.start();
    await waitUntil('requests pass again', passes, 30_000);
  });

  test('on the calling side nothing passes', async () => {
    await shop.desk.stop('SIGKILL');
    expect((await shop.ask(web, '/invoices')).status).toBe(0);
    expect((await shop.query(reports)).exitCode).not.toBe(0);
    await shop.desk.start();
    await waitUntil('requests pass again', passes, 30_000);
  });

  test('only picket agent capture remove takes the rules away', async () => {
    await shop.desk.stop('SIGTERM');
    expect(await shop.desk.picketOk('agent', 'capture', 'show')).toContain('15001');
    await shop.desk.picketOk('agent', 'capture', 'remove');
    expect(await shop.desk.picketOk('agent', 'capture', 'show')).not.toContain('15001');
    // Without capture the host is one without Picket: the other side refuses it.
    expect((await shop.ask(web, '/invoices')).status).not.toBe(200);
    await shop.desk.start();
    await waitUntil('requests pass again', passes, 30_000);
  });
});
