import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodePage } from '../../../shared/protocol/operator.ts';
import { quarantinePage } from '../../../shared/protocol/quarantine.ts';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { encodePem } from '../../../shared/wire/pem.ts';
import { run } from '../../kit/child.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { OperatorClient } from '../../kit/operator-client.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { WorkloadClient, x509SvidAnswer } from '../../kit/workload-client.ts';
import { opening } from './mesh-client.ts';
import { MeshSession, type ShownFiles } from './mesh-session.ts';
import { stateFolderOf, stealState } from './stolen-state.ts';

/** A workload in quarantine that wants to go on, with all that it had before: its key, its sessions, its connections, its host. */

setDefaultTimeout(60_000);

const { web } = SHOP_USERS;
/** The user of the other process that is /web too, on the other host. */
const WEB_ON_STORE = 7055;
const WEB = 'spiffe://example.org/web';
const INVOICES = spiffeServerName(parseSpiffeId('spiffe://example.org/invoices'));
const GET = 'GET /invoices HTTP/1.1\r\nHost: shop\r\n\r\n';
const QUARANTINED = 18;
let shop: Shop;
let client: WorkloadClient;
/** What /web got from the Workload API of each host before. */
let fromDesk: ShownFiles;
let fromStore: ShownFiles;
const sessions: MeshSession[] = [];

beforeAll(async () => {
  shop = await Shop.open();
  client = await WorkloadClient.build(shop.folder);
  await shop.mesh.register({ path: '/web', on: shop.store, selectors: [`unix:uid:${WEB_ON_STORE}`] });
  fromDesk = await fetchSvid(shop.desk, web);
  fromStore = await fetchSvid(shop.store, WEB_ON_STORE);
}, 120_000);
afterAll(async () => await shop.close());
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close();
  const { items } = await shop.mesh.control.picketJson(quarantinePage, 'quarantine', 'list');
  for (const { kind, subject } of items)
    await shop.mesh.control.picketOk(
      'quarantine',
      'lift',
      ...(kind === 'workload' ? [subject] : [`--${kind}`, subject]),
    );
  await waitUntil('requests pass', async () => (await shop.ask(web, '/invoices')).status === 200);
});

async function fetchSvid(on: MeshHost, uid: number): Promise<ShownFiles> {
  const answer = await waitUntil(`${on.name} has the SVID`, async () => {
    const { stdout, exitCode } = await run(client.command(on, uid, 'FetchX509SVID', 1), { cwd: '/' });
    return exitCode === 0 && x509SvidAnswer.parse(JSON.parse(stdout)).svids[0];
  });
  const file = (name: string, text: string): string => {
    const path = join(shop.folder, `${on.name}-${name}`);
    writeFileSync(path, text);
    return path;
  };
  const pems: string[] = [];
  for (let rest = Buffer.from(answer.x509_svid, 'base64'); rest.length > 0;) {
    const certificate = new X509Certificate(rest);
    pems.push(certificate.toString());
    rest = rest.subarray(certificate.raw.length);
  }
  return {
    leafFile: file('leaf.pem', pems[0] ?? ''),
    othersFile: file('others.pem', pems.slice(1).join('')),
    keyFile: file('leaf.key', encodePem('PRIVATE KEY', Buffer.from(answer.x509_svid_key, 'base64'))),
  };
}

function speak(shown: ShownFiles, options: readonly string[] = []): MeshSession {
  const { outsider, store } = shop;
  const session = new MeshSession({ from: outsider, to: store.host, serverName: INVOICES, shown, options });
  sessions.push(session);
  return session;
}

/** Asks for nginx on a session: how the first request is answered. */
async function askOn(session: MeshSession, count = 1): Promise<string> {
  session.data = '';
  session.say(opening(shop.store.host.ipv4, 80));
  await session.frame('accept', count);
  session.sayData(GET);
  await session.says('\r\n\r\n');
  return session.data;
}

async function add(...args: readonly string[]): Promise<void> {
  await shop.mesh.control.picketOk('quarantine', 'add', ...args, '--reason', 'an attack');
}

async function nodeOf(name: string): Promise<string> {
  const { items } = await shop.mesh.control.picketJson(nodePage, 'node', 'list');
  return items.find(({ nodeId }) => nodeId.endsWith(`/${name}`))?.nodeId ?? '';
}

/** Whether the desk's own agent refuses /web for it. */
async function isHeldAtDesk(): Promise<boolean> {
  return (await shop.ask(web, '/invoices')).status !== 200 && (await shop.why(web)).includes('"quarantined"');
}

describe('a workload in quarantine gets nowhere with its own TLS client', () => {
  test('on an open connection, one that it used before, a resumed session or a new one', async () => {
    const session = join(shop.folder, 'session.pem');
    const open = speak(fromDesk, ['-sess_out', session]);
    expect(await askOn(open)).toStartWith('HTTP/1.1 200');
    const used = speak(fromDesk);
    expect(await askOn(used)).toStartWith('HTTP/1.1 200');
    used.sayEnd();
    await used.frame('end');
    await add(WEB);

    expect(await open.frame('reset')).toMatchObject({ reasonCode: QUARANTINED });
    await waitUntil('TLS is over too', () => !open.isOpen);
    // The one that carried nothing stays, and is of no use.
    for (const [held, count] of [
      [used, 2],
      [speak(fromDesk), 1],
      [speak(fromDesk, ['-sess_in', session]), 1],
    ] as const) {
      const answer = await askOn(held, count);
      expect(answer).toStartWith('HTTP/1.1 403');
      await held.says('"reason":"quarantined"');
    }
    const requests = await shop.countNginxRequests();
    const bytes = speak(fromDesk);
    bytes.say(opening(shop.store.host.ipv4, 80));
    await bytes.frame('accept');
    bytes.sayData('\0\0\0\x08');
    expect(await bytes.frame('reset')).toMatchObject({ reasonCode: QUARANTINED });
    expect(await shop.countNginxRequests()).toBe(requests);
  });

  test('and neither by the key of its host, nor is another host’s workload of the same name touched by that', async () => {
    await add('--node', await nodeOf('desk'));
    await waitUntil('it is in force there', async () => await isHeldAtDesk());
    const held = speak(fromDesk);
    await waitUntil('it is in force here', async () =>
      (await askOn(speak(fromDesk))).startsWith('HTTP/1.1 403'),
    );
    expect(await askOn(held)).toStartWith('HTTP/1.1 403');
    await held.says('"reason":"quarantined"');
    expect(await askOn(speak(fromStore))).toStartWith('HTTP/1.1 200');
  });

  test('nor is somebody touched whose name begins alike', async () => {
    await add('--segment', 'spiffe://example.org/we');
    await add('spiffe://example.org/web/x');
    await add('spiffe://example.org/other');
    await waitUntil('all are in force', async () => (await shop.store.metric('picket_quarantines')) === 3);
    expect(await askOn(speak(fromDesk))).toStartWith('HTTP/1.1 200');
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
  });
});

describe('a workload in quarantine gets no new key', () => {
  test('from the Workload API, where the others get theirs', async () => {
    const ask = async (uid: number) =>
      await run(client.command(shop.desk, uid, 'FetchX509SVID', 1), { cwd: '/' });
    await add(WEB);
    await waitUntil('it is in force', async () => (await ask(web)).exitCode !== 0);
    expect((await ask(web)).stdout).toContain('This process is in quarantine');
    expect((await ask(SHOP_USERS.reports)).exitCode).toBe(0);
  });
});

describe('a host cannot lift a quarantine', () => {
  test('with its agent’s certificate, at either port of the server', async () => {
    await add(WEB);
    const { svid } = await stealState(shop.store);
    const file = (name: string, text: string): string => {
      writeFileSync(join(shop.folder, name), text);
      return join(shop.folder, name);
    };
    const { control } = shop.mesh;
    const files = {
      cert: file('agent.pem', svid.chainPem),
      key: file('agent.key', svid.privateKeyPem),
      bundle: control.bundleFile,
    };
    const path = `/quarantines/workload/${encodeURIComponent(WEB)}`;
    const agent = new OperatorClient(control, shop.outsider, files);
    expect((await agent.curl(path, '-X', 'DELETE')).status).toBe(401);
    const to = ['--connect-to', `localhost:8443:${control.host.ipv4}:8443`, '--cacert', files.bundle];
    const identity = ['--cert', files.cert, '--key', files.key, '-o', '/dev/null', '-w', '%{http_code}'];
    const url = `https://localhost:8443${path}`;
    const asked = await run(shop.outsider.in('curl', '-sS', '-X', 'DELETE', ...to, ...identity, url));
    expect(asked.stdout).toBe('404');
    expect((await control.picketJson(quarantinePage, 'quarantine', 'list')).items).toHaveLength(1);
  });

  test('by starting its agent anew while no server answers', async () => {
    await add(WEB);
    await waitUntil('it is in force', async () => await isHeldAtDesk());
    await waitUntil('it is written down', async () =>
      (await stealState(shop.desk)).snapshot.items.some(({ kind }) => kind === 'quarantine'),
    );
    await shop.desk.stop('SIGKILL');
    await shop.mesh.control.stop();
    try {
      await shop.desk.start();
      expect(await isHeldAtDesk()).toBe(true);
    } finally {
      await shop.mesh.control.start();
    }
  });

  test('by losing what its agent has written down, or by altering it', async () => {
    await add(WEB);
    await waitUntil('it is in force', async () => await isHeldAtDesk());
    await shop.desk.stop();
    await shop.mesh.control.stop();
    const file = join(stateFolderOf(shop.desk), 'sync-state.sealed');
    try {
      const sealed = readFileSync(file);
      writeFileSync(
        file,
        sealed.map((byte, i) => (i === sealed.length - 1 ? byte ^ 1 : byte)),
      );
      const altered = shop.desk.launch();
      await waitUntil('the agent does not start with it', () => !altered.isRunning);
      expect(shop.desk.log()).toContain('Cannot open the sealed value "sync-state"');
      // Its rules stand, and point at nothing.
      expect((await shop.ask(web, '/invoices')).status).toBe(0);

      rmSync(file);
      shop.desk.launch();
      await waitUntil('everybody is held: nobody knows who is meant', async () => await isHeldAtDesk());
      expect(await shop.why(web)).toContain('It is not known who is in quarantine');
    } finally {
      await shop.mesh.control.start();
    }
    // The agent may not try again to reach the server before half a minute is over.
    const doOthersGoOn = async (): Promise<boolean> => (await shop.query(SHOP_USERS.reports)).exitCode === 0;
    await waitUntil('the others go on', doOthersGoOn, 60_000);
    // Its certificate was lost with the rest, and it gets no other one: it is held as what registration says that it is, not let through as nobody.
    expect(await isHeldAtDesk()).toBe(true);
    expect(await shop.why(web)).not.toContain('It is not known');
  }, 120_000);
});
