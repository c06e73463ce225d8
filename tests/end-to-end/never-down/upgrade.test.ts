import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { SteadyLoad } from '../bad-days/steady-load.ts';
import { awaitEnd, statusOf } from './upgraded.ts';

/** What two processes of one agent share beside traffic: programs of the kernel, the service manager, the server, settings. Captured by eBPF. */

setDefaultTimeout(180_000);

/** An agent that has found no server for a while tries again after half a minute. */
const RECONNECTED_WITHIN_MS = 60_000;
/** Prints what a service says to its service manager (sd_notify(3)), with who sent it. */
const MANAGER = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
print("listening", flush=True)
while True:
    data, fds, *_ = socket.recv_fds(s, 4096, 1)
    print("said", data.decode().replace("\\n", " "), flush=True)
    # A barrier: its sender waits until it is closed.
    for fd in fds:
        os.close(fd)
`;

let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open({ backend: 'ebpf' });
}, 180_000);
afterAll(async () => await shop?.close());

test('the programs of capture are taken over, whatever is under way, and each decision is on record once', async () => {
  await SteadyLoad.during(shop, async () => {
    for (const host of [shop.desk, shop.store]) {
      await host.upgrade();
      expect((await statusOf(host)).capture).toMatchObject({ mode: 'ebpf', isIntact: true });
    }
    await waitUntil(
      'requests pass',
      async () => (await shop.ask(SHOP_USERS.web, '/invoices')).status === 200,
    );
  });
  for (const host of [shop.desk, shop.store]) {
    await awaitEnd(host);
    expect((await statusOf(host)).capture.isIntact).toBe(true);
    expect(eventsOf(host.log(), 'capture_rules_changed')).toEqual([]);
  }
  expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  expect((await shop.ask(SHOP_USERS.nobody, '/invoices')).status).not.toBe(200);
});

test('the service manager hears which process is the main one', async () => {
  const { store } = shop;
  const path = join(store.folder, 'notify.sock');
  const manager = new Child({
    command: ['/usr/bin/python3', '-c', MANAGER, path],
    logFile: join(store.folder, 'manager.log'),
  });
  try {
    await manager.ready('the manager listens', () => manager.log().includes('listening'));
    await store.stop();
    await store.start({ env: { NOTIFY_SOCKET: path } });
    await waitUntil('it is ready', () => manager.log().includes('READY=1'));
    expect(manager.log()).not.toContain('MAINPID');
    const { pid } = await store.upgrade();
    expect(manager.log()).toContain(`MAINPID=${pid}`);
    await awaitEnd(store);
  } finally {
    await manager.stop('SIGKILL');
  }
});

test('the new process serves without the server, with what the old one knew', async () => {
  const { store, desk, mesh } = shop;
  await mesh.control.stop('SIGKILL');
  for (const host of [store, desk]) {
    await host.upgrade();
    await awaitEnd(host);
  }
  expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  expect((await shop.ask(SHOP_USERS.web, '/refunds', '-X', 'POST')).status).toBe(403);
  expect((await shop.query(SHOP_USERS.reports)).exitCode).toBe(0);
  await mesh.control.start();
  await waitUntil(
    'both are connected',
    async () => (await Promise.all([store, desk].map(statusOf))).every(({ server }) => server.isConnected),
    RECONNECTED_WITHIN_MS,
  );
});

test('new settings take effect: a socket that moves is where it belongs, and the old path is gone', async () => {
  const { desk } = shop;
  const before = readFileSync(desk.configFile, 'utf8');
  const moved = join(desk.folder, 'moved.sock');
  await Bun.write(desk.configFile, before.replaceAll(desk.workloadApi, moved));
  await desk.upgrade();
  await awaitEnd(desk);
  expect([existsSync(moved), existsSync(desk.workloadApi)]).toEqual([true, false]);
  await Bun.write(desk.configFile, before);
  await desk.upgrade();
  await awaitEnd(desk);
  expect([existsSync(moved), existsSync(desk.workloadApi)]).toEqual([false, true]);
});

test('an agent that ends for good takes its sockets along, after any number of upgrades', async () => {
  const { desk } = shop;
  await desk.stop();
  expect(existsSync(desk.workloadApi)).toBe(false);
  await desk.start();
  await waitUntil('requests pass', async () => (await shop.ask(SHOP_USERS.web, '/invoices')).status === 200);
});
