import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { run } from '../../kit/child.ts';
import type { TestHost } from '../../kit/netns.ts';
import { asUser } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';

/** Floods between the test's own namespaces, bounded in count and time: honest requests go on meanwhile. And garbage on every port and socket. */

setDefaultTimeout(60_000);

const { web } = SHOP_USERS;
const FLOOD = readFileSync(join(import.meta.dirname, 'programs/flood.py'), 'utf8');
/** A connection that found the queue of the listener full is tried again by the kernel after one, three, seven and fifteen seconds. */
const PATIENT_SECONDS = '30';
const GARBAGE = [
  Buffer.alloc(4096),
  randomBytes(4096),
  Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  Buffer.from(`${'A'.repeat(60_000)}\r\n\r\n`),
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x05\0\0\0\x01', 'latin1'),
  Buffer.from('16030100ff010000fb0303', 'hex'),
  Buffer.from('1603030002ffff', 'hex'),
];
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

interface Flood {
  readonly from: TestHost;
  readonly uid: number;
  readonly port: number;
  readonly count: number;
  readonly send: Uint8Array;
}

/** Floods `store` for some seconds, while /web asks one request after another on connections of its own; what became of those. */
async function askDuring({ from, uid, port, count, send }: Flood): Promise<{
  readonly standing: number;
  readonly answers: ReadonlySet<string>;
}> {
  const args = [shop.store.host.ipv4, String(port), String(count), Buffer.from(send).toString('hex'), '4'];
  const over = new AbortController();
  const flood = run(from.in(...asUser(uid, '/usr/bin/python3', '-c', FLOOD, ...args)), { cwd: '/' }).finally(
    () => over.abort(),
  );
  const answers = new Set<string>();
  while (!over.signal.aborted) {
    const { status, error } = await shop.ask(web, '/invoices', '--max-time', PATIENT_SECONDS);
    answers.add(`${status} ${error}`.trim());
  }
  return { standing: Number((await flood).stdout), answers };
}

async function whatWasRefused(): Promise<string> {
  const { stdout } = await shop.desk.picket(['why', '--last', '3', '--json'], { uid: web });
  return stdout;
}

/** How many connections of the flood stood after a second. */
async function expectHonestTraffic(flood: Flood): Promise<number> {
  const { standing, answers } = await askDuring(flood);
  expect([...answers], await whatWasRefused()).toEqual(['200']);
  expect((await shop.query(SHOP_USERS.reports)).stdout.trim()).toBe('2');
  return standing;
}

describe('honest requests go on', () => {
  test('beside 3,000 handshakes that never go on', async () => {
    const send = Buffer.from('16030100fa010000f60303', 'hex');
    expect(
      await expectHonestTraffic({ from: shop.outsider, uid: 0, port: 15_008, count: 3000, send }),
    ).toBeGreaterThan(0);
  });

  test('beside 3,000 plaintext connections that say nothing', async () => {
    expect(
      await expectHonestTraffic({
        from: shop.outsider,
        uid: 0,
        port: 80,
        count: 3000,
        send: Buffer.from('G'),
      }),
    ).toBeGreaterThan(0);
  });

  test('beside 300 heads of the same workload that never end', async () => {
    const send = Buffer.from('GET /invoices HTTP/1.1\r\nHost: shop\r\nX-Slow: ');
    expect(
      await expectHonestTraffic({ from: shop.desk.host, uid: web, port: 80, count: 300, send }),
    ).toBeGreaterThan(0);
  });

  test('beside 200 bodies of the same workload that never end', async () => {
    const send = Buffer.from('GET /invoices HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\nx');
    expect(
      await expectHonestTraffic({ from: shop.desk.host, uid: web, port: 80, count: 200, send }),
    ).toBeGreaterThan(0);
  });

  test('beside 1,000 connections of a process without identity', async () => {
    const from = shop.desk.host;
    await expectHonestTraffic({
      from,
      uid: SHOP_USERS.nobody,
      port: 80,
      count: 1000,
      send: Buffer.from('GET'),
    });
  });
});

describe('garbage', () => {
  const throwAt = async (from: TestHost, host: string, port: number): Promise<void> => {
    for (const bytes of GARBAGE) {
      const args = [host, String(port), '3', bytes.toString('hex'), '0.1'];
      await run(from.in('/usr/bin/python3', '-c', FLOOD, ...args));
    }
  };

  test('on the ports of an agent and of the server changes nothing', async () => {
    const { store, mesh, outsider } = shop;
    const pid = store.pid;
    await Promise.all([
      ...[15_001, 15_006, 15_008].map(async (port) => await throwAt(outsider, store.host.ipv4, port)),
      ...[15_001, 15_006, 15_020, 15_021].map(async (port) => await throwAt(store.host, '127.0.0.1', port)),
      ...[8443, 8444].map(async (port) => await throwAt(outsider, mesh.control.host.ipv4, port)),
    ]);
    expect(store.pid).toBe(pid);
    expect(await store.isReady()).toBe(true);
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
    expect(await mesh.control.picketOk('node', 'list')).toContain('store');
  });

  test('on the Workload API, the admin socket and the operators’ socket changes nothing', async () => {
    const { store, mesh } = shop;
    const adminSocket = join(store.folder, 'admin.sock');
    for (const path of [store.workloadApi, adminSocket, mesh.control.socket])
      for (const bytes of GARBAGE) await throwAtSocket(path, bytes);
    expect(await store.isReady()).toBe(true);
    expect(await store.picketOk('why', '--last', '1', '--json')).toBeDefined();
    expect(await mesh.control.picketOk('node', 'list')).toContain('store');
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
  });
});

/** Sends the bytes and ends; resolves when the other side has ended too, or after a second. */
async function throwAtSocket(path: string, bytes: Uint8Array): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const socket = connect(path, () => socket.end(bytes));
  socket.on('error', () => resolve(undefined));
  socket.on('close', () => resolve(undefined));
  socket.resume();
  socket.setTimeout(1000, () => socket.destroy());
  await promise;
}
