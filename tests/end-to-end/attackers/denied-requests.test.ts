import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';

/** A stranger has requests denied on many connections at once, as fast as the agent decides: somebody else's request is decided among the next ones. */

setDefaultTimeout(120_000);

const { web } = SHOP_USERS;
const FLOOD = readFileSync(join(import.meta.dirname, 'programs/denied-requests.py'), 'utf8');
const CONNECTIONS = 60;
const REQUESTS = 15;
/** What one more takes than without the flood. Where each connection has a turn of its own, that is seconds. */
const MORE_MS = 700;
const TARGETS = {
  'short ones': '/x',
  'ones of many parts': `/${'x/'.repeat(250)}x?${Array.from({ length: 1000 }, (_, n) => `p${n}=1`).join('&')}`,
  'ones of many escapes': `/x?${'%41'.repeat(20_000)}`,
};

let shop: Shop;
beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

/** How long one request of /web takes, each on a connection of its own; the median. */
async function measureMs(): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < REQUESTS; i++) {
    const startedMs = performance.now();
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
    times.push(performance.now() - startedMs);
  }
  return times.toSorted((a, b) => a - b)[Math.floor(REQUESTS / 2)] ?? Infinity;
}

async function countDenied(): Promise<number> {
  const text = await shop.store.host.runOk('curl', '-sf', 'http://127.0.0.1:15020/metrics');
  const counts = text.matchAll(/^picket_decisions_total\{.*decision="deny".*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

describe('a request goes on beside a stranger’s denied requests on many connections', () => {
  test.each(Object.entries(TARGETS))('%s', async (_, target) => {
    const quietMs = await measureMs();
    const args = [shop.store.host.ipv4, '80', String(CONNECTIONS), target];
    const logFile = join(shop.folder, `denied-${target.length}.log`);
    const flood = new Child({ command: shop.outsider.in('/usr/bin/python3', '-c', FLOOD, ...args), logFile });
    try {
      await waitUntil('all of it asks', () => readFileSync(logFile, 'utf8').includes('asking'), 30_000);
      const before = await countDenied();
      const floodedMs = await measureMs();
      expect(await countDenied()).toBeGreaterThan(before);
      expect(flood.isRunning).toBe(true);
      expect(floodedMs).toBeLessThan(quietMs + MORE_MS);
    } finally {
      await flood.stop();
    }
  });
});
