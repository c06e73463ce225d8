import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { curl, psql } from '../kit/programs.ts';
import { SHOP_USERS, type ShopOptions } from '../kit/shop.ts';
import { TRANSPARENT_PORTS, TransparentShop } from '../kit/transparent-shop.ts';

/** Programs whose listeners ask for it are connected from the caller's address: nginx, PostgreSQL and one that speaks bytes, with each way to capture and to carry. */

setDefaultTimeout(120_000);

const { http, http2, bytes } = TRANSPARENT_PORTS;
const WAYS: readonly (readonly [string, ShopOptions])[] = [
  ['nftables', {}],
  ['eBPF', { backend: 'ebpf' }],
  ['nftables, in two workers', { settings: { proxy: { workers: 2 } } }],
];

describe.each(WAYS)('with capture by %s', (_, options) => {
  let rig: TransparentShop;
  beforeAll(async () => (rig = await TransparentShop.open(options)), 180_000);
  afterAll(async () => await rig?.close());

  test.each(['ipv4', 'ipv6'] as const)('nginx sees the calling host, by %s', async (family) => {
    const { store, desk } = rig.shop;
    const address = store.host[family];
    const where = address.includes(':') ? `[${address}]` : address;
    expect((await rig.ask(`http://${where}:${http}/one`)).body).toBe(`from ${desk.host[family]}\n`);
    const answer = await rig.ask(`http://${where}:${http2}/two`, '--http2-prior-knowledge');
    expect(answer.body).toBe(`from ${desk.host[family]}\n`);
    const [one = '', two = ''] = (await rig.accessLog()).slice(-2);
    expect(one).toStartWith(`${desk.host[family]} `);
    expect(one).toContain('"GET /one HTTP/1.1"');
    expect(two).toStartWith(`${desk.host[family]} `);
    expect(two).toContain('"GET /two HTTP/2.0"');
  });

  test('a connection that carries several requests has one address', async () => {
    const { store, desk } = rig.shop;
    const url = `http://${store.host.ipv4}:${http}/`;
    const { body } = await rig.ask(url, url, url);
    expect(body.match(new RegExp(`from ${desk.host.ipv4}\n`, 'g'))).toHaveLength(3);
  });

  test('PostgreSQL sees the calling host', async () => {
    const { desk, store } = rig.shop;
    const query = { uid: SHOP_USERS.reports, sql: 'select host(inet_client_addr())' };
    for (const family of ['ipv4', 'ipv6'] as const)
      expect(await psql(desk.host, { ...query, server: store.host[family] })).toMatchObject({
        exitCode: 0,
        stdout: `${desk.host[family]}\n`,
      });
  });

  test('64 MiB go there and come back after the caller has ended its side', async () => {
    const { desk, store } = rig.shop;
    for (const family of ['ipv4', 'ipv6'] as const) {
      const { stdout, stderr } = await rig.send(store.host[family], 1024);
      expect([stdout, stderr]).toEqual([`${desk.host[family]} ${64 << 20} ${64 << 20}\n`, '']);
    }
  });

  test('a caller in plaintext is seen too', async () => {
    const { outsider, store } = rig.shop;
    for (const family of ['ipv4', 'ipv6'] as const) {
      const where = family === 'ipv6' ? `[${store.host.ipv6}]` : store.host.ipv4;
      const { body } = await curl(outsider, { uid: 0, args: [`http://${where}:${http}/`] });
      expect(body).toBe(`from ${outsider[family]}\n`);
    }
  });

  test('a caller on the same host has the address that it would have without Picket', async () => {
    const { store } = rig.shop;
    for (const address of [store.host.ipv4, '127.0.0.1']) {
      const { body } = await curl(store.host, { uid: 33, args: [`http://${address}:${http}/`] });
      expect(body).toBe(`from ${address}\n`);
    }
  });

  test('status and doctor say so', async () => {
    const { store } = rig.shop;
    const shown = await store.picketOk('agent', 'status');
    expect(shown).toMatch(
      new RegExp(`^transparent: +ports 5432, ${http}, ${http2}, ${bytes}, repaired 0`, 'm'),
    );
    expect((await store.examine()).outcomes['agent transparent']).toBe('ok');
  });
});
