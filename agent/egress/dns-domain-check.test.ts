import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DnsServer } from '../../tests/kit/dns.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { freePort } from '../../tests/kit/free-port.ts';
import { DnsDomainCheck } from './dns-domain-check.ts';

/** Against a real DNS server. */

const MANY = Array.from({ length: 8 }, (_, i) => `10.1.0.${i + 1}`);
let folder: string;
let port: number;
let server: DnsServer;
let clock: FakeClock;
let check: DnsDomainCheck;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-dns-'));
  port = freePort();
  server = await start({ 'api.test': ['10.0.0.1', 'fd00::1'], 'short.test': ['10.0.0.9'] });
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  clock = new FakeClock();
  check = new DnsDomainCheck({ resolvers: [`127.0.0.1:${port}`], clock });
});

async function start(records: Readonly<Record<string, readonly string[]>>, ttl = 0): Promise<DnsServer> {
  return await DnsServer.start({ folder, address: '127.0.0.1', port, records, ttl });
}

const timesAsked = (name: string): number => server.asked.filter((asked) => asked === name).length;

describe('DnsDomainCheck', () => {
  test('believes what DNS says, of both families, and nothing else', async () => {
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(true);
    expect(await check.leadsTo('api.test', 'fd00::1')).toBe(true);
    expect(await check.leadsTo('api.test', 'fd00:0:0::0001')).toBe(true);
    expect(await check.leadsTo('api.test', '10.0.0.2')).toBe(false);
    expect(await check.leadsTo('unknown.test', '10.0.0.1')).toBe(false);
  });

  test('asks once for many who want to know at once, and not again while the answer holds', async () => {
    const before = timesAsked('short.test');
    const all = Array.from({ length: 20 }, async () => await check.leadsTo('short.test', '10.0.0.9'));
    expect(await Promise.all(all)).not.toContain(false);
    clock.advance(299_000);
    expect(await check.leadsTo('short.test', '10.0.0.9')).toBe(true);
    expect(timesAsked('short.test') - before).toBe(1);
    clock.advance(2000);
    expect(await check.leadsTo('short.test', '10.0.0.9')).toBe(true);
    expect(timesAsked('short.test') - before).toBe(2);
  });

  test('does not let one who calls wrong addresses ask without end', async () => {
    const before = timesAsked('api.test');
    for (let i = 0; i < 50; i++) expect(await check.leadsTo('api.test', '10.6.6.6')).toBe(false);
    expect(timesAsked('api.test') - before).toBe(1);
    clock.advance(1001);
    await check.leadsTo('api.test', '10.6.6.6');
    expect(timesAsked('api.test') - before).toBe(2);
  });

  test('keeps an address for a while that the name led to, and forgets it then', async () => {
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(true);
    await server.stop();
    server = await start({ 'api.test': MANY, 'short.test': ['10.0.0.9'] });
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(true);
    clock.advance(1001);
    expect(await check.leadsTo('api.test', MANY[7]!)).toBe(true);
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(true);
    clock.advance(300_000);
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(false);
  });

  test('believes nothing while nobody answers', async () => {
    await server.stop();
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(false);
    server = await start({ 'api.test': ['10.0.0.1'] });
    clock.advance(1001);
    expect(await check.leadsTo('api.test', '10.0.0.1')).toBe(true);
  }, 30_000);
});
