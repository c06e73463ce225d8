import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { Shop } from '../../kit/shop.ts';
import { SmallDisk } from '../../kit/small-disk.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { SteadyLoad } from './steady-load.ts';

/** The disk under the server's data folder, its embedded database with it, is full to the last block and has room again: the server goes on by itself. */

setDefaultTimeout(240_000);

/** Room for the embedded database, and for what is kept free. */
const DISK_MIB = 192;
const UNTIL_TOLD_MS = 60_000;
let shop: Shop;
let disk: SmallDisk;

beforeAll(async () => {
  shop = await Shop.open();
  const { control } = shop.mesh;
  await control.stop();
  disk = await SmallDisk.under(join(control.folder, 'data'), DISK_MIB);
  await control.start();
}, 120_000);

afterAll(async () => {
  await shop.mesh.control.stop('SIGKILL');
  await disk.remove();
  await shop.close();
});

test.each([1, 2])(
  'a full disk stops no request, loses no decision, tells itself, and is got over without a restart (%i)',
  async (round) => {
    const { control } = shop.mesh;
    const { pid } = control;
    const told = (event: string): number => eventsOf(control.log(), event).length;
    const before = { failed: told('database_failed'), recovered: told('database_recovered') };
    await SteadyLoad.during(shop, async () => {
      await disk.fill();
      await waitUntil('the log tells it', () => told('database_failed') > before.failed, UNTIL_TOLD_MS);
      expect(eventsOf(control.log(), 'database_failed').at(-1)).toContain('"reason":"database_full"');
      expect(await control.metric('picket_database_ok')).toBe(0);
      expect(await control.metric('picket_data_disk_free_bytes')).toBe(0);
      const { exitCode, faults } = await control.examine();
      expect(exitCode).toBe(1);
      expect(faults.join('\n')).toMatch(
        /^server database fail: The disk of the embedded database has less than 32 MiB left/m,
      );
      expect(faults.join('\n')).toMatch(/^server disk fail: .*: 0 bytes of/m);
      const refused = await control.picket('token', 'create', `refused-${round}`);
      expect(refused.exitCode).toBe(6);
      expect(refused.stderr).toContain('less than 32 MiB left');
      // What was there before can be read.
      expect((await control.picket('entry', 'list')).exitCode).toBe(0);
      disk.free();
      await waitUntil(
        'the server is well',
        async () => (await control.examine()).exitCode === 0,
        UNTIL_TOLD_MS,
      );
      await control.picketOk('token', 'create', `made-${round}`);
    });
    expect(control.pid).toBe(pid);
    expect(told('database_recovered')).toBeGreaterThan(before.recovered);
    const uid = 7060 + round;
    await shop.mesh.register({ path: `/after-${round}`, on: shop.desk, selectors: [`unix:uid:${uid}`] });
    await waitUntil(
      'the hosts are told of changes',
      async () => (await shop.ask(uid, '/invoices')).status === 403,
      UNTIL_TOLD_MS,
    );
  },
);
