import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { Child } from '../../kit/child.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';

/** Somebody else takes the agent's rules away: all of them, a chain, a single rule, once and again and again. */

setDefaultTimeout(120_000);

const { web, reports } = SHOP_USERS;
const PAUSE_MS = 50;
const FLUSH = 'flush ruleset';
const NAMED =
  /^agent capture fail: somebody takes the rules away again and again, .* started by sh \(pid \d+\): .*WITHOUT Picket/m;
/** Handles of rules are counted from table to table: it is looked up. */
const disturbances: readonly (readonly [name: string, command: () => Promise<string>])[] = [
  ['everything is flushed', () => Promise.resolve(FLUSH)],
  ['the table is deleted', () => Promise.resolve('delete table inet picket')],
  [
    'a chain is deleted',
    () => Promise.resolve('flush chain inet picket guard_forward; delete chain inet picket guard_forward'),
  ],
  [
    'a single rule is deleted',
    async () => `delete rule inet picket guard_forward handle ${await findHandle()}`,
  ],
  ['a rule is put in front', () => Promise.resolve('insert rule inet picket guard_output accept')],
];

let shop: Shop;
beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

const nft = async (...args: readonly string[]): Promise<string> => await shop.desk.host.runOk('nft', ...args);
const listRules = async (): Promise<string> => await nft('--stateless', 'list', 'table', 'inet', 'picket');
const countRepairs = async (): Promise<number> =>
  (await shop.desk.metric('picket_capture_repairs_total')) ?? 0;

async function findHandle(): Promise<string> {
  const rules = await nft('-a', 'list', 'chain', 'inet', 'picket', 'guard_forward');
  return /counter .*drop # handle (\d+)/.exec(rules)![1]!;
}

/** Each load of the rules makes the table anew, under the next number. */
async function readTableHandle(): Promise<number> {
  return Number(/table inet picket \{ # handle (\d+)/.exec(await nft('-a', 'list', 'tables'))?.[1]);
}

/** Runs requests one after another until it is told to end; what else than an answer of the service they got. */
function startLoad(): { readonly end: () => Promise<readonly number[]> } {
  const ending = new AbortController();
  const run = async (): Promise<readonly number[]> => {
    const others: number[] = [];
    while (!ending.signal.aborted) {
      const { status } = await shop.ask(web, '/invoices', '--max-time', '3');
      if (status !== 200) others.push(status);
    }
    return others;
  };
  const running = run();
  return {
    end: async () => {
      ending.abort();
      return await running;
    },
  };
}

describe('the rules of a host under load', () => {
  test.each(disturbances)('are put back at once when %s, and it is told who did it', async (_, command) => {
    const before = await listRules();
    const repairs = await countRepairs();
    const told = eventsOf(shop.desk.log(), 'capture_rules_changed').length;
    const load = startLoad();
    await nft(await command());
    await waitUntil('it is undone', async () => (await countRepairs()) > repairs);
    expect(await listRules()).toBe(before);
    await waitUntil('requests pass', async () => (await shop.ask(web, '/invoices')).status === 200);
    const others = await load.end();
    // What left in between met the rules of the other host: it was cut off, or refused as a caller without identity.
    expect(others.filter((status) => status !== 0 && status !== 403)).toEqual([]);
    expect(await countRepairs()).toBe(repairs + 1);
    const events = eventsOf(shop.desk.log(), 'capture_rules_changed').slice(told);
    expect(events).toHaveLength(1);
    // Only who hears of the change knows who made it: the look that comes every five seconds does not.
    expect(events[0]).toMatch(/"by":"nft \(pid \d+\)/);
    const { exitCode, faults } = await shop.desk.examine();
    expect([exitCode, faults]).toEqual([
      0,
      [expect.stringMatching(/^agent capture warn: somebody changed .*the last time nft \(pid \d+\)/)],
    ]);
  });

  test('are put back within milliseconds of the change', () => {
    const times = eventsOf(shop.desk.log(), 'capture_rules_changed').map((line) =>
      Number(/"repaired_ms":(\d+)/.exec(line)?.[1]),
    );
    expect(times.length).toBe(disturbances.length);
    expect(Math.min(...times)).toBeLessThan(250);
  });

  test('leave open connections that are quiet alone while they are put back', async () => {
    const repairs = await countRepairs();
    const query = shop.query(reports, 'select 42 from pg_sleep(5)');
    // What is under way in the moment of the flush is lost, for nobody translates it: this connection has nothing under way.
    const running =
      "select count(*) from pg_stat_activity where query like 'select 42%' and now() - query_start > '1 second'";
    await waitUntil('it is asked', async () => (await shop.query(reports, running)).stdout === '1\n');
    await nft(FLUSH);
    expect(await query).toMatchObject({ exitCode: 0, stdout: '42\n' });
    expect(await countRepairs()).toBe(repairs + 1);
  });

  test('are loaded once for each change of the agent’s own, which is no repair', async () => {
    const { desk, mesh } = shop;
    for (const port of [9101, 9102]) {
      const [handle, repairs] = [await readTableHandle(), await countRepairs()];
      const selectors = [`unix:uid:${port}`];
      await mesh.register({ path: `/own-${port}`, on: desk, selectors, listen: [String(port)] });
      await waitUntil('the rules follow', async () => (await listRules()).includes(String(port)));
      await waitUntil('that is told', () =>
        eventsOf(desk.log(), 'capture_applied').some((line) => line.includes(String(port))),
      );
      expect(await readTableHandle()).toBe(handle + 1);
      expect(await countRepairs()).toBe(repairs);
    }
    // A change of others in between shows that what was heard before has been worked off.
    const [handle, repairs] = [await readTableHandle(), await countRepairs()];
    await nft('flush chain inet picket guard_forward');
    await waitUntil('it is undone', async () => (await countRepairs()) > repairs);
    expect(await readTableHandle()).toBe(handle + 1);
  });

  test('do not follow changes of the rules of others', async () => {
    const [handle, repairs] = [await readTableHandle(), await countRepairs()];
    await nft(
      'add table inet mine; add chain inet mine c; add rule inet mine c accept; delete table inet mine',
    );
    await nft('flush chain inet picket guard_forward');
    await waitUntil('our own are put back', async () => (await countRepairs()) > repairs);
    expect([await readTableHandle(), await countRepairs()]).toEqual([handle + 1, repairs + 1]);
  });
});

describe('a program that flushes the rules without end', () => {
  test('is named, does not take the host’s time, and when it ends all is well', async () => {
    const { desk } = shop;
    const told = eventsOf(desk.log(), 'capture_rules_changed').length;
    const flusher = new Child({
      command: desk.host.in('sh', '-c', `while :; do nft ${FLUSH}; done`),
      logFile: join(shop.folder, 'flusher.log'),
    });
    try {
      await waitUntil(
        'it is noticed',
        async () => (await desk.metric('picket_capture_contested')) === 1,
        60_000,
      );
      const [startedMs, repairs] = [performance.now(), await countRepairs()];
      // Who started nft is told where that was still there to be looked at.
      await waitUntil('it is named', async () => {
        const { exitCode, faults } = await desk.examine();
        return exitCode === 1 && NAMED.test(faults.join('\n'));
      });
      await waitUntil('repairs go on', async () => (await countRepairs()) > repairs + 20, 60_000);
      const perSecond = ((await countRepairs()) - repairs) / ((performance.now() - startedMs) / 1000);
      expect(perSecond).toBeLessThan(1000 / PAUSE_MS);
    } finally {
      await flusher.stop('SIGKILL');
    }
    expect(eventsOf(desk.log(), 'capture_rules_contested').length).toBeGreaterThan(0);
    expect(eventsOf(desk.log(), 'capture_rules_changed').length - told).toBeLessThanOrEqual(10);
    await waitUntil('it is over', async () => (await desk.metric('picket_capture_contested')) === 0, 30_000);
    expect(await desk.metric('picket_capture_intact')).toBe(1);
    expect((await desk.examine()).exitCode).toBe(0);
    await waitUntil('requests pass', async () => (await shop.ask(web, '/invoices')).status === 200);
  });
});
