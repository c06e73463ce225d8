import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { entryPage } from '../../shared/protocol/operator.ts';
import type { Child } from '../kit/child.ts';
import { curl, isListening, startNginx } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** A program that asks for the PROXY protocol is told where callers come from; nobody else can tell it. */

setDefaultTimeout(60_000);

const PORT = 8081;
const { web } = SHOP_USERS;
/** It counts whoever the header names, and believes it from anybody who reaches it: that is the agent alone. */
const LOCATIONS = `
  set_real_ip_from 0.0.0.0/0; set_real_ip_from ::/0; real_ip_header proxy_protocol;
  location / { default_type text/plain; return 200 "from $remote_addr to $proxy_protocol_server_addr\\n"; }`;

let shop: Shop;
let nginx: Child;

beforeAll(async () => {
  shop = await Shop.open();
  nginx = await startNginx(shop.store.host, {
    folder: join(shop.folder, 'nginx-behind'),
    locations: LOCATIONS,
    listen: [`${PORT} proxy_protocol`, `[::]:${PORT} proxy_protocol`],
  });
  await waitUntil('it listens', async () => await isListening(shop.store.host, PORT));
  const { items } = await shop.mesh.control.picketJson(entryPage, 'entry', 'list');
  const entry = items.find(({ spiffeId }) => spiffeId === 'spiffe://example.org/invoices');
  const listeners = ['--listen', '80', '--listen', `${PORT}/auto/proxy`];
  await shop.mesh.control.picketOk('entry', 'update', entry?.entryId ?? '', ...listeners);
  await waitUntil('it is registered', async () => (await ask(shop.store.host.ipv4)).status === 200);
}, 120_000);
afterAll(async () => {
  await nginx.stop();
  await shop.close();
});

async function ask(address: string, ...args: readonly string[]): ReturnType<typeof curl> {
  const host = address.includes(':') ? `[${address}]` : address;
  return await curl(shop.desk.host, { uid: web, args: [`http://${host}:${PORT}/invoices`, ...args] });
}

describe('a program that asks for the PROXY protocol', () => {
  test('is told the address of the calling host and the one that was asked for, by IPv4 and IPv6', async () => {
    const { desk, store } = shop;
    expect((await ask(store.host.ipv4)).body).toBe(`from ${desk.host.ipv4} to ${store.host.ipv4}\n`);
    expect((await ask(store.host.ipv6)).body).toBe(`from ${desk.host.ipv6} to ${store.host.ipv6}\n`);
  });

  test('is told it once for a connection that carries several requests', async () => {
    const { store, desk } = shop;
    const url = `http://${store.host.ipv4}:${PORT}/invoices`;
    const { body } = await curl(desk.host, { uid: web, args: [url, url, url] });
    expect(body.match(new RegExp(`from ${desk.host.ipv4} `, 'g'))).toHaveLength(3);
  });

  test('hears nothing of what a caller says in that protocol: it is no request', async () => {
    const header = 'PROXY TCP4 203.0.113.9 203.0.113.10 1 2\\r\\n';
    const request = 'GET /invoices HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n';
    const answer = await shop.sendRaw(web, `${header}${request}`, PORT);
    expect(answer).not.toContain('203.0.113.9');
    expect(answer).not.toContain('200 OK');
  });

  test('shares its port with no listener that does not ask', async () => {
    const { items } = await shop.mesh.control.picketJson(entryPage, 'entry', 'list');
    const entry = items.find(({ spiffeId }) => spiffeId === 'spiffe://example.org/invoices');
    const made = await shop.mesh.control.picket(
      'entry',
      'create',
      'spiffe://example.org/invoices',
      '--parent',
      entry?.parentId ?? '',
      '--selector',
      'unix:uid:1',
      '--listen',
      `${PORT}/auto`,
    );
    expect(made.exitCode).not.toBe(0);
    expect(made.stderr).toContain('as auto with the PROXY protocol');
    const shown = await shop.mesh.control.picketOk('entry', 'list');
    expect(shown).toContain(`${PORT}/auto/proxy`);
  });
});
