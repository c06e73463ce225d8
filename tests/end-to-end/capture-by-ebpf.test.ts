import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createBpfPlace } from '../kit/bpf-place.ts';
import { run } from '../kit/child.ts';
import { asUser, curl, startNginx } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** A mesh whose agents capture by eBPF: what it does, what it does with an agent dead, and what is left of it. The tests follow each other. */

setDefaultTimeout(90_000);

const { web, reports, nobody } = SHOP_USERS;
let shop: Shop;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  shop = await Shop.open({ backend: 'ebpf' });
  stack.defer(async () => await shop.close());
  const folder = join(shop.folder, 'nginx-outsider');
  const nginx = await startNginx(shop.outsider, { folder, locations: 'location / { return 200; }' });
  stack.defer(async () => void (await nginx.stop()));
}, 120_000);
afterAll(async () => await stack.disposeAsync());

/** The folder in which the agent of `desk` pins its programs. */
async function pinsOfDesk(): Promise<string> {
  const shown = await shop.desk.picketOk('agent', 'capture', 'show');
  const folder = /^programs pinned in (.*):$/m.exec(shown)?.[1];
  if (folder === undefined) throw new Error(`No programs: ${shown}`);
  return folder;
}

/** The inodes of what is pinned, by name: another link of the same name has another one. */
function inodesIn(folder: string): Readonly<Record<string, number>> {
  return Object.fromEntries(readdirSync(folder).map((name) => [name, statSync(join(folder, name)).ino]));
}

async function reachesOutsider(uid: number): Promise<boolean> {
  return (
    (await curl(shop.desk.host, { uid, args: [`http://${shop.outsider.ipv4}/`, '-m', '2'] })).status === 200
  );
}

describe('a host that is captured by eBPF', () => {
  test('carries HTTP and other protocols as the workloads that call', async () => {
    const { status, body } = await shop.ask(web, '/invoices');
    expect([status, body.includes('URI=spiffe://example.org/web')]).toEqual([200, true]);
    expect(await shop.query(reports)).toMatchObject({ exitCode: 0, stdout: '2\n' });
    expect((await shop.ask(nobody, '/invoices')).status).not.toBe(200);
    expect((await shop.query(nobody)).exitCode).not.toBe(0);
    const url = `http://[${shop.store.host.ipv6}]/invoices`;
    expect((await curl(shop.desk.host, { uid: web, args: [url] })).status).toBe(200);
  });

  test('shows its programs whom they meant to call', async () => {
    const args = ['curl', '-s', '-o', '/dev/null', '-w', '%{remote_ip} %{remote_port}'];
    const url = `http://${shop.store.host.ipv4}/invoices`;
    const { stdout } = await run(shop.desk.host.in(...asUser(web, ...args, url)), { cwd: '/' });
    expect(stdout).toBe(`${shop.store.host.ipv4} 80`);
  });

  test('lets nothing out of the mesh, and nothing in but through it', async () => {
    expect(await reachesOutsider(web)).toBe(false);
    const seen = await shop.countNginxRequests();
    const url = `http://${shop.store.host.ipv4}/invoices`;
    expect((await curl(shop.outsider, { uid: web, args: [url, '-m', '2'] })).status).not.toBe(200);
    expect(await shop.countNginxRequests()).toBe(seen);
  });

  test('keeps its connections when connection tracking forgets all', async () => {
    const query = shop.query(reports, 'select 42 from pg_sleep(6)');
    const running = "select count(*) from pg_stat_activity where query like 'select 42%'";
    await waitUntil('it is asked', async () => (await shop.query(reports, running)).stdout === '1\n');
    await shop.desk.host.runOk('conntrack', '-F');
    expect(await query).toMatchObject({ exitCode: 0, stdout: '42\n' });
  });

  test('learns of an address that it gets', async () => {
    const { host } = shop.desk;
    const address = '10.9.0.77';
    await host.runOk('ip', 'addr', 'add', `${address}/32`, 'dev', 'eth0');
    const folder = join(shop.folder, 'nginx-own');
    const locations = 'location / { return 204; }';
    await using own = new AsyncDisposableStack();
    const nginx = await startNginx(host, {
      folder,
      locations,
      listen: [`${address}:80`],
    });
    own.defer(async () => void (await nginx.stop()));
    await waitUntil('its own port is reached there', async () => {
      const { status } = await curl(host, { uid: nobody, args: [`http://${address}/`, '-m', '2'] });
      return status === 204;
    });
    await host.runOk('ip', 'addr', 'del', `${address}/32`, 'dev', 'eth0');
  });

  test('is told as such by status and doctor', async () => {
    expect(JSON.parse(await shop.desk.picketOk('agent', 'status', '--json'))).toMatchObject({
      capture: { mode: 'ebpf', isIntact: true },
    });
    const { exitCode, faults } = await shop.desk.examine();
    expect([exitCode, faults]).toEqual([0, []]);
  });

  test('has its programs put back when somebody takes them away, and refuses until then', async () => {
    const folder = await pinsOfDesk();
    await run(['rm', join(folder, 'connect4')]);
    expect(await reachesOutsider(web)).toBe(false);
    await waitUntil('they are back', () => existsSync(join(folder, 'connect4')));
    await waitUntil('requests pass', async () => (await shop.ask(web, '/invoices')).status === 200);
  });
});

describe('with its agent', () => {
  test('killed, a host refuses what was captured, and the next agent takes the programs over', async () => {
    const folder = await pinsOfDesk();
    const before = inodesIn(folder);
    await shop.desk.stop('SIGKILL');
    const CURL_REFUSED = 7;
    const url = `http://${shop.store.host.ipv4}/invoices`;
    for (const uid of [0, web]) {
      const { exitCode } = await run(shop.desk.host.in(...asUser(uid, 'curl', '-s', '-m', '2', url)), {
        cwd: '/',
      });
      expect(exitCode).toBe(CURL_REFUSED);
    }
    expect(await reachesOutsider(0)).toBe(false);
    await shop.desk.start();
    await waitUntil('requests pass', async () => (await shop.ask(web, '/invoices')).status === 200);
    const after = inodesIn(folder);
    for (const name of ['connect4', 'connect6', 'sendmsg4', 'sendmsg6', 'release', 'getsockopt'])
      expect([name, after[name]]).toEqual([name, before[name]]);
  });

  test('stopped, a host is free once capture is removed, and nothing is left of it', async () => {
    const folder = await pinsOfDesk();
    await shop.desk.stop();
    expect(await reachesOutsider(web)).toBe(false);
    await shop.desk.picketOk('agent', 'capture', 'remove');
    expect(existsSync(folder)).toBe(false);
    expect((await shop.desk.host.runOk('nft', 'list', 'ruleset')).trim()).toBe('');
    expect(await shop.desk.picketOk('agent', 'capture', 'show')).toStartWith('No capture rules');
    expect(await reachesOutsider(web)).toBe(true);
  });
});

describe('where the kernel or the host lacks what eBPF needs', () => {
  const lacking = (): string => {
    const folder = join(shop.folder, 'no-bpf');
    mkdirSync(folder, { recursive: true });
    return join(folder, 'picket');
  };

  test('an agent that is to use it ends, and says why', async () => {
    const capture = { backend: 'ebpf', bpf_dir: lacking() };
    const spare = await shop.mesh.prepareJoin(shop.outsider, 'spare', { capture });
    const child = spare.launch();
    await waitUntil('it has ended', () => !child.isRunning);
    expect(child.log()).toContain('it is not in a BPF file system');
    expect((await shop.outsider.runOk('nft', 'list', 'ruleset')).trim()).toBe('');
  });

  test('an agent that lacks the privileges ends, and says what it could not do', async () => {
    const place = await createBpfPlace(shop.outsider);
    stack.defer(async () => await place.remove());
    const spare = await shop.mesh.prepareJoin(place.host, 'powerless', { capture: place.settings });
    const child = spare.launch({ through: ['setpriv', '--bounding-set=-bpf,-sys_admin'] });
    await waitUntil('it has ended', () => !child.isRunning);
    expect(child.log()).toMatch(/Cannot make the map pk_\w+ in the kernel: EPERM/);
    expect((await shop.outsider.runOk('nft', 'list', 'ruleset')).trim()).toBe('');
  });

  test('an agent that may choose takes nftables, and the doctor says why', async () => {
    const capture = { backend: 'auto', bpf_dir: lacking() };
    const spare = await shop.mesh.joinHost(shop.outsider, 'other', { capture });
    expect(JSON.parse(await spare.picketOk('agent', 'status', '--json'))).toMatchObject({
      capture: { mode: 'nftables', isIntact: true },
    });
    const doctor = await spare.picket(['doctor', '--role', 'agent']);
    expect(doctor.stdout).toContain('cannot be used: Cannot pin programs');
  });
});
