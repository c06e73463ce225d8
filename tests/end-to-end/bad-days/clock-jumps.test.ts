import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { entryPage } from '../../../shared/protocol/operator.ts';
import { decisionsBelow } from '../../kit/access-records.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { asUser } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { WallClock } from '../../kit/wall-clock.ts';
import { eventsOf } from '../../kit/witnesses.ts';

/** Clocks that jump by an hour while certificates live for half of one. A wrong clock may deny, and never allows. Each test leaves all clocks right. */

setDefaultTimeout(180_000);

const HOUR = 3600;
const LIFE_SECONDS = HOUR / 2;
const { web, reports } = SHOP_USERS;
/** What is due is looked at every 30 s at least, and a server that was refused is asked again. */
const RECOVERY_MS = 90_000;

let folder: string;
let shop: Shop;
let clocks: { readonly server: WallClock; readonly store: WallClock; readonly desk: WallClock };
let uploads = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-clocks-'));
  clocks = {
    server: new WallClock(folder, 'server'),
    store: new WallClock(folder, 'store'),
    desk: new WallClock(folder, 'desk'),
  };
  shop = await Shop.open({ serverSettings: { svid: { agent_ttl_seconds: LIFE_SECONDS } } });
  const { control } = shop.mesh;
  const { items } = await control.picketJson(entryPage, 'entry', 'list');
  for (const { entryId } of items)
    await control.picketOk('entry', 'update', entryId, '--ttl', `${LIFE_SECONDS}s`);
  for (const [process, { env }] of [
    [control, clocks.server],
    [shop.store, clocks.store],
    [shop.desk, clocks.desk],
  ] as const) {
    await process.stop();
    await process.start({ env });
  }
  await waitUntil('requests pass', passes, RECOVERY_MS);
}, 180_000);

afterEach(async () => {
  for (const clock of Object.values(clocks)) clock.set(0);
  await waitUntil('all recovers by itself', recovered, RECOVERY_MS);
});

afterAll(async () => {
  await shop.close();
  rmSync(folder, { recursive: true, force: true });
});

async function passes(): Promise<boolean> {
  return (await shop.ask(web, '/invoices')).status === 200 && (await shop.query(reports)).exitCode === 0;
}

/** Requests pass, hosts hear of changes, and nobody finds a fault. */
async function recovered(): Promise<boolean> {
  if (!(await passes())) return false;
  for (const host of [shop.desk, shop.store, shop.mesh.control])
    if ((await host.examine()).faults.length > 0) return false;
  return true;
}

/** A request that is allowed and does not end by itself. Returns once it is under way. */
async function uploadForEver(): Promise<Bun.Subprocess> {
  const path = `/upload/endless-${++uploads}`;
  const url = `http://${shop.store.host.ipv4}${path}`;
  const command = shop.desk.host.in(...asUser(web, 'curl', '-sS', '-T', '.', url));
  const upload = Bun.spawn(command, { stdin: 'pipe', stdout: 'ignore', stderr: 'ignore' });
  void upload.stdin.write('the first bytes');
  void upload.stdin.flush();
  await waitUntil('it is under way', async () => {
    const decided = await decisionsBelow(shop.mesh.control, 'spiffe://example.org/invoices', path);
    return decided.some(({ decision }) => decision === 'allow');
  });
  return upload;
}

async function expectDenied(): Promise<void> {
  expect((await shop.ask(web, '/invoices')).status).not.toBe(200);
  expect((await shop.query(reports)).exitCode).not.toBe(0);
}

const skewsTold = (agent: MeshHost): readonly string[] => eventsOf(agent.log(), 'clock_skewed');

/** Log, metric and doctor of an agent whose clock is not the server's; its log told so many of such before. */
async function expectToldOf(
  agent: MeshHost,
  { secondsAhead, toldBefore }: { readonly secondsAhead: number; readonly toldBefore: number },
): Promise<void> {
  await waitUntil(`the log of ${agent.name} tells it`, () =>
    skewsTold(agent)
      .slice(toldBefore)
      .some((line) => isAbout(line, secondsAhead)),
  );
  const skew = await agent.metric('picket_clock_skew_seconds');
  expect(Math.abs((skew ?? 0) - secondsAhead)).toBeLessThan(60);
  const { exitCode, faults } = await agent.examine();
  expect(exitCode).toBe(1);
  const direction = secondsAhead > 0 ? 'ahead' : 'behind';
  expect(faults.join('\n')).toMatch(
    new RegExp(`^agent clock fail: \\d+ s ${direction} of the server’s`, 'm'),
  );
}

function isAbout(line: string, secondsAhead: number): boolean {
  const { skew_ms: skewMs } = JSON.parse(line) as { readonly skew_ms: number };
  return Math.abs(skewMs / 1000 - secondsAhead) < 60;
}

describe.each([
  ['forwards', HOUR],
  ['backwards', -HOUR],
])('a clock that jumps an hour %s', (_direction, jump) => {
  test.each(['desk', 'store'] as const)(
    'on the host %s denies what its certificates no longer or not yet allow',
    async (name) => {
      const upload = await uploadForEver();
      const toldBefore = skewsTold(shop[name]).length;
      clocks[name].set(jump);
      await expectDenied();
      await waitUntil('what is under way is cut', () => upload.exitCode !== null, RECOVERY_MS);
      await expectToldOf(shop[name], { secondsAhead: jump, toldBefore });
      await expectDenied();
    },
  );

  test('on the server makes no certificate that a host takes, and what they have goes on', async () => {
    const { control } = shop.mesh;
    const latecomer = jump > 0 ? 7051 : 7052;
    const toldBefore = skewsTold(shop.desk).length;
    const told = (event: string): number => eventsOf(control.log(), event).length;
    const jumpsBefore = told('clock_jumped');
    // The server looks every few seconds: it may not have seen yet that its clock is right again.
    await waitUntil('the jump before is told to be over', () => told('clock_in_step') === jumpsBefore);
    clocks.server.set(jump);
    expect(await passes()).toBe(true);
    await waitUntil('the log tells it', () => told('clock_jumped') > jumpsBefore);
    expect(Math.round(((await control.metric('picket_clock_jump_seconds')) ?? 0) / 60)).toBe(jump / 60);
    expect((await control.examine()).faults).toEqual([
      expect.stringMatching(/^server clock warn: it was set: \d+ s/),
    ]);
    await shop.mesh.register({
      path: `/during${jump}`,
      on: shop.desk,
      selectors: [`unix:uid:${latecomer}`],
      ttl: '20m',
    });
    await expectToldOf(shop.desk, { secondsAhead: -jump, toldBefore });
    expect((await shop.ask(latecomer, '/invoices')).status).toBe(0);
    expect(await passes()).toBe(true);
  });
});
