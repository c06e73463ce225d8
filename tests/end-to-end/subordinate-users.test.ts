import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Shop } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** Whoever was given a range of users is one user to the agent: it runs with an /etc of its own here, in which that stands. */

setDefaultTimeout(120_000);

const RANGE = { first: 100_000, count: 65_536 };
const USERS = 100;
const EACH = 20;
/** Of one user, in the rules. */
const AT_ONCE = 400;
const PER_SECOND = 200;

/** As each of so many users, so many datagrams that the policy allows to nobody. */
const FLOOD = `
import os, socket, sys
to, first = sys.argv[1], int(sys.argv[2])
for uid in range(first, first + ${USERS}):
    os.setresuid(uid, uid, 0)
    for n in range(${EACH}):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try: own.sendto(b'flood', (to, 9001))
        except PermissionError: pass
        own.close()
    os.setresuid(0, 0, 0)
`;

let shop: Shop;
let subuid: string;

beforeAll(async () => {
  shop = await Shop.open({ settings: { egress: { udp: 'policy' } } });
  const etc = join(shop.folder, 'etc');
  cpSync('/etc', etc, { recursive: true, verbatimSymlinks: true });
  subuid = join(etc, 'subuid');
  writeFileSync(subuid, '');
  await shop.desk.stop();
  const mount = `mount --bind ${etc} /etc && exec "$@"`;
  await shop.desk.start({ through: ['unshare', '--mount', 'sh', '-c', mount, 'sh'] });
}, 180_000);
afterAll(async () => await shop?.close());

/** What the agent was asked about by a flood from so many users. */
async function flood(first: number): Promise<{ readonly asked: number; readonly seconds: number }> {
  const count = async (): Promise<number> => {
    const dropped = ['denied', 'lost'].map((why) => `picket_udp_${why}_datagrams_total`);
    const counts = await Promise.all(dropped.map(async (series) => await shop.desk.metric(series)));
    return counts.reduce<number>((sum, each) => sum + (each ?? 0), 0);
  };
  const [before, begunMs] = [await count(), performance.now()];
  await shop.desk.host.runOk('/usr/bin/python3', '-c', FLOOD, shop.outsider.ipv4, String(first));
  const seconds = (performance.now() - begunMs) / 1000;
  let asked = -1;
  await waitUntil('all is counted', async () => {
    const last = asked;
    asked = (await count()) - before;
    return asked > 0 && asked === last;
  });
  return { asked, seconds };
}

test('a range of users asks about UDP no more than one user does, from when the file says so', async () => {
  expect((await flood(RANGE.first)).asked).toBe(USERS * EACH);
  writeFileSync(subuid, `alice:${RANGE.first}:${RANGE.count}\n`);
  await waitUntil('the rules follow', async () =>
    (await shop.desk.host.runOk('nft', 'list', 'table', 'inet', 'picket')).includes('goto udp_asks_of_0'),
  );
  await waitUntil('they are in force', async () => await shop.desk.isReady());
  const { asked, seconds } = await flood(RANGE.first + 1000);
  expect(asked).toBeLessThanOrEqual(AT_ONCE + PER_SECOND * seconds);
  expect((await flood(7100)).asked).toBe(USERS * EACH);
});
