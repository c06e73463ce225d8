import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DnsServer } from '../../tests/kit/dns.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { freePort } from '../../tests/kit/free-port.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
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
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(true);
    expect(await check.leadsTo('api.test', 'fd00::1', 'web')).toBe(true);
    expect(await check.leadsTo('api.test', 'fd00:0:0::0001', 'web')).toBe(true);
    expect(await check.leadsTo('api.test', '10.0.0.2', 'web')).toBe(false);
    expect(await check.leadsTo('unknown.test', '10.0.0.1', 'web')).toBe(false);
  });

  test('asks once for many who want to know at once, and not again while the answer holds', async () => {
    const before = timesAsked('short.test');
    const all = Array.from({ length: 20 }, async () => await check.leadsTo('short.test', '10.0.0.9', 'web'));
    expect(await Promise.all(all)).not.toContain(false);
    clock.advance(299_000);
    expect(await check.leadsTo('short.test', '10.0.0.9', 'web')).toBe(true);
    expect(timesAsked('short.test') - before).toBe(1);
    clock.advance(2000);
    expect(await check.leadsTo('short.test', '10.0.0.9', 'web')).toBe(true);
    expect(timesAsked('short.test') - before).toBe(2);
  });

  test('does not let one who calls wrong addresses ask without end', async () => {
    const before = timesAsked('api.test');
    for (let i = 0; i < 50; i++) expect(await check.leadsTo('api.test', '10.6.6.6', 'web')).toBe(false);
    expect(timesAsked('api.test') - before).toBe(1);
    clock.advance(1001);
    await check.leadsTo('api.test', '10.6.6.6', 'web');
    expect(timesAsked('api.test') - before).toBe(2);
  });

  test('keeps an address for a while that the name led to, and forgets it then', async () => {
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(true);
    await server.stop();
    server = await start({ 'api.test': MANY, 'short.test': ['10.0.0.9'] });
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(true);
    clock.advance(1001);
    expect(await check.leadsTo('api.test', MANY[7]!, 'web')).toBe(true);
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(true);
    clock.advance(300_000);
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(false);
  });

  test('believes nothing while nobody answers', async () => {
    await server.stop();
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(false);
    server = await start({ 'api.test': ['10.0.0.1'] });
    clock.advance(1001);
    expect(await check.leadsTo('api.test', '10.0.0.1', 'web')).toBe(true);
  }, 60_000);

  test('leaves others their share, however much one asks at once', async () => {
    const asked = new Set<string>();
    const held: (() => void)[] = [];
    let isSlow = true;
    const slow = await Bun.udpSocket({
      hostname: '127.0.0.1',
      socket: {
        data: (socket, query, from, address) => {
          asked.add(nameIn(query));
          const answer = noSuchName(query);
          if (isSlow) held.push(() => socket.send(answer, from, address));
          else socket.send(answer, from, address);
        },
      },
    });
    check = new DnsDomainCheck({ resolvers: [`127.0.0.1:${slow.port}`], clock });
    const lookups = Array.from({ length: 100 }, async (_, i) =>
      check.leadsTo(`n${i}.test`, '10.0.0.1', 'greedy'),
    );
    lookups.push(check.leadsTo('other.test', '10.0.0.1', 'web'));
    await waitUntil('the other is asked for', () => asked.has('other.test'));
    expect(asked.size).toBeLessThanOrEqual(17);
    isSlow = false;
    for (const answer of held) answer();
    expect(await Promise.all(lookups)).not.toContain(true);
    for (let i = 0; i < 100; i++) await check.leadsTo(`again${i}.test`, '10.0.0.1', 'greedy');
    expect(asked.has('again99.test')).toBe(true);
    slow.close();
  }, 60_000);
});

/** An answer that denies what a query asks for (RFC 1035 4.1.1). */
function noSuchName(query: Buffer): Buffer {
  const answer = Buffer.from(query);
  answer.writeUInt16BE(0x8183, 2);
  return answer;
}

/** The name of a query's one question (RFC 1035 4.1.2). */
function nameIn(query: Buffer): string {
  const labels: string[] = [];
  for (let at = 12; query[at] !== 0 && at < query.length; at += 1 + query[at]!)
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
  return labels.join('.');
}
