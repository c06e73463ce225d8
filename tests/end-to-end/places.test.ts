import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { whyAnswer } from '../../agent/admin/admin-answers.ts';
import { decisionsBelow } from '../kit/access-records.ts';
import { Child } from '../kit/child.ts';
import { asUser, curl, isListening } from '../kit/programs.ts';
import { FORWARD_PORT, INVOICES, nodeIdOf, PlacesMesh, SERVICE, WEB_UID } from '../kit/places-mesh.ts';
import { waitUntil } from '../kit/wait.ts';
import { issueLeaf, signIntermediate, writeCredentials } from './attackers/mesh-client.ts';

/** One service in three places: the nearest that is well is asked, and whatever happens to it, the next one is. */

setDefaultTimeout(120_000);

const MESH_PORT = 15_008;
let places: PlacesMesh;

beforeAll(async () => {
  places = await PlacesMesh.open();
}, 180_000);
afterAll(async () => await places.close());

/** From when to when, in milliseconds. */
type Span = readonly [number, number];

interface Asked {
  readonly startedMs: number;
  readonly endedMs: number;
  readonly status: number;
  readonly place: string;
}

/** Requests one after another, each on a connection of its own, while `work` goes on; two at a time. */
async function askDuring(work: () => Promise<void>): Promise<readonly Asked[]> {
  const asked: Asked[] = [];
  const done = new AbortController();
  const ask = async (): Promise<void> => {
    while (!done.signal.aborted) {
      const startedMs = performance.now();
      const { status, place } = await places.ask();
      asked.push({ startedMs, endedMs: performance.now(), status, place });
    }
  };
  const asking = [ask(), ask()];
  try {
    await work();
  } finally {
    done.abort();
    await Promise.all(asking);
  }
  return asked;
}

/** Those that were lost, other than such as were under way at a time between the two. */
function lostOutside(asked: readonly Asked[], [fromMs, toMs]: Span): readonly Asked[] {
  return asked.filter(
    ({ status, startedMs, endedMs }) => status !== 200 && !(startedMs <= toMs && endedMs >= fromMs),
  );
}

async function times(count: number): Promise<readonly string[]> {
  const seen: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const { status, place } = await places.ask();
    seen.push(`${status} ${place}`);
  }
  return seen;
}

describe('a service in several places', () => {
  test('is answered from the nearest, by IPv4, by IPv6 and by a forward, and the record says which host it was', async () => {
    expect(new Set(await times(5))).toEqual(new Set(['200 near']));
    const args = (url: string): readonly string[] => [url];
    const ask = async (url: string): Promise<string> =>
      (await curl(places.desk.host, { uid: WEB_UID, args: args(url) })).body.trim();
    expect(await ask(`http://[${SERVICE.ipv6}]/invoices`)).toBe('near');
    expect(await ask(`http://127.0.0.1:${FORWARD_PORT}/invoices/by-forward`)).toBe('near');
    const [record] = await waitUntil('it is recorded', async () => {
      const found = await decisionsBelow(places.mesh.control, INVOICES, '/invoices/by-forward');
      return found.length > 0 && found;
    });
    const destination = `${places.hosts.near.host.ipv4}:80`;
    expect(record).toMatchObject({ node_id: nodeIdOf('near'), destination, decision: 'allow' });
    const { near, region, far } = await places.members();
    expect([near.distance, region.distance, far.distance]).toEqual(['zone', 'region', 'elsewhere']);
    expect(await places.desk.metric('picket_service_connections_total{distance="zone"}')).toBeGreaterThan(6);
    const shown = await places.desk.picketOk('agent', 'status');
    expect(shown).toMatch(/invoices\s+10\.9\.0\.2:80\s+zone\s+eu\/a/);
  });

  test('is decided as ever: who may not, may not anywhere, and only one host is asked', async () => {
    const path = '/invoices/not-by-post';
    expect(await places.ask(path, '-X', 'POST')).toMatchObject({ status: 403 });
    const denied = await waitUntil('it is recorded', async () => {
      const found = await decisionsBelow(places.mesh.control, INVOICES, path);
      return found.length > 0 && found;
    });
    expect(denied).toMatchObject([{ node_id: nodeIdOf('near'), decision: 'deny', reason: 'policy_deny' }]);
    const stranger = await curl(places.desk.host, { uid: 7999, args: [`http://${SERVICE.ipv4}/invoices`] });
    expect(stranger.status).toBe(0);
  });

  test('leads nowhere by its other ports', async () => {
    const url = `http://${SERVICE.ipv4}:81/`;
    const answer = await curl(places.desk.host, { uid: WEB_UID, args: [url] });
    expect(answer.status).toBe(0);
    const why = await places.desk.picket(['why', '--last', '1', '--json'], { uid: WEB_UID });
    expect(why.stdout).toContain('target_unknown');
  });

  test('follows where operators say that hosts are', async () => {
    await places.mesh.control.picketOk('node', 'place', 'set', nodeIdOf('desk'), 'us/a');
    await places.waitForPlace('far');
    expect(new Set(await times(3))).toEqual(new Set(['200 far']));
    await places.mesh.control.picketOk('node', 'place', 'set', nodeIdOf('desk'), 'eu/a');
    await places.waitForPlace('near');
  });
});

describe('when members of a service fail', () => {
  // What it has learned of members would keep the nearest away for ever longer.
  afterEach(async () => {
    await places.desk.stop();
    await places.desk.start();
    await places.waitForPlace('near');
  });

  test('a program that stops under load costs no request that it had not begun with, and is back by itself', async () => {
    let stop: Span = [0, 0];
    const asked = await askDuring(async () => {
      await times(3);
      const fromMs = performance.now();
      await places.stopNginx('near');
      stop = [fromMs, performance.now()];
      await waitUntil('it is passed over', async () => (await places.members()).near.ejectedSeconds > 0);
      await times(3);
      // Of five seconds at first, and again and again as long as somebody asks.
      await waitUntil(
        'doctor tells it',
        async () => (await places.desk.examine()).outcomes['agent services'] === 'warn',
      );
    });
    expect(lostOutside(asked, stop)).toEqual([]);
    const after = asked.filter(({ startedMs }) => startedMs > stop[1]);
    expect(after.length).toBeGreaterThan(3);
    expect(new Set(after.map(({ place }) => place))).toEqual(new Set(['region']));
    expect(await places.desk.metric('picket_service_ejections_total{why="refused"}')).toBeGreaterThan(0);
    await places.startNginx('near');
  });

  test('an agent that dies under load, and its host’s program with it, costs only what it carried', async () => {
    let died: Span = [0, 0];
    const asked = await askDuring(async () => {
      await times(3);
      const fromMs = performance.now();
      await places.hosts.near.stop('SIGKILL');
      await places.stopNginx('near', 'SIGTERM');
      died = [fromMs, performance.now()];
      await times(6);
    });
    expect(lostOutside(asked, died)).toEqual([]);
    expect(new Set((await times(2)).values())).toEqual(new Set(['200 region']));
    await places.startNginx('near');
    await places.hosts.near.start();
  });

  test('a host that is cut off costs waiting, and no request', async () => {
    const { bridge } = places.mesh.network;
    let cut: Span = [0, 0];
    const seen: string[] = [];
    const asked = await askDuring(async () => {
      await times(3);
      const fromMs = performance.now();
      await bridge.runOk('ip', 'link', 'set', 'port2', 'down');
      cut = [fromMs, performance.now()];
      seen.push(...(await times(4)));
      await waitUntil(
        'it is passed over',
        async () => (await places.members()).near.ejectedSeconds > 0,
        60_000,
      );
      seen.push(...(await times(3)));
    });
    await bridge.runOk('ip', 'link', 'set', 'port2', 'up');
    expect(lostOutside(asked, cut)).toEqual([]);
    // Who was asking when it was cut off may wait for longer than all of this takes, and asks nothing behind it.
    const after = asked.filter(({ startedMs }) => startedMs > cut[1]);
    seen.push(...after.map(({ status, place }) => `${status} ${place}`));
    expect(new Set(seen)).toEqual(new Set(['200 region']));
  });

  test('both near ones gone, the farthest answers; all gone, the caller is refused and told why', async () => {
    for (const place of ['near', 'region'] as const) await places.stopNginx(place);
    expect(await places.ask()).toMatchObject({ status: 200, place: 'far' });
    await places.stopNginx('far');
    expect(await places.ask()).toMatchObject({ status: 0 });
    const { stdout } = await places.desk.picket(['why', '--last', '1', '--json'], { uid: WEB_UID });
    const [denial] = whyAnswer.parse(JSON.parse(stdout)).denials;
    expect(denial?.record).toMatchObject({
      reason: 'listener_unidentified',
      destination: `${SERVICE.ipv4}:80`,
      member: `${places.hosts.far.host.ipv4}:80`,
    });
    expect(denial?.record.message).toContain('None of ');
    for (const place of ['near', 'region', 'far'] as const) await places.startNginx(place);
  });

  test('another program at the port of a member gets nothing', async () => {
    await places.stopNginx('near');
    const { host } = places.hosts.near;
    const server = ['python3', '-m', 'http.server', '--bind', '0.0.0.0', '80'];
    const impostor = Bun.spawn(host.in(...asUser(0, ...server)), {
      stdout: 'ignore',
      stderr: 'pipe',
      cwd: '/',
    });
    await waitUntil('it listens', async () => await isListening(host, 80));
    expect(new Set(await times(4))).toEqual(new Set(['200 region']));
    impostor.kill('SIGKILL');
    await impostor.exited;
    expect(await new Response(impostor.stderr).text()).not.toContain('GET');
    await places.startNginx('near');
  });

  test('a member whose host answers as somebody else is told nothing, and passed over at once', async () => {
    const intermediate = await signIntermediate(places.mesh.control);
    const chain = [await issueLeaf(intermediate, 'spiffe://example.org/database'), intermediate];
    const { leafFile, othersFile, keyFile } = await writeCredentials(chain, places.mesh.control.folder);
    await places.hosts.near.stop('SIGKILL');
    const { host } = places.hosts.near;
    const certificate = ['-cert', leafFile, '-key', keyFile, '-cert_chain', othersFile];
    const server = [
      'openssl',
      's_server',
      '-accept',
      `${host.ipv4}:${MESH_PORT}`,
      '-alpn',
      'picket/1',
      '-quiet',
      '-verify',
      '4',
    ];
    const impostor = Bun.spawn(host.in(...server, ...certificate), {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'ignore',
    });
    await waitUntil('it listens', async () => await isListening(host, MESH_PORT));
    expect(await times(2)).toEqual(['200 region', '200 region']);
    expect(await places.desk.metric('picket_service_ejections_total{why="untrusted"}')).toBeGreaterThan(0);
    const { near } = await places.members();
    expect(near.lastFailure).toContain('spiffe://example.org/database');
    impostor.kill('SIGKILL');
    expect((await new Response(impostor.stdout).bytes()).length).toBe(0);
    await places.hosts.near.start();
  });

  test('a member in quarantine is passed over, and what it carried is cut', async () => {
    const { control } = places.mesh;
    const request = String.raw`GET /invoices HTTP/1.1\r\nhost: a\r\n\r\n`;
    const script = `exec 3<>/dev/tcp/${SERVICE.ipv4}/80; printf '${request}' >&3; cat <&3`;
    const held = new Child({
      command: places.desk.host.in(...asUser(WEB_UID, 'bash', '-c', script)),
      logFile: join(places.folder, 'held.log'),
    });
    await held.ready('it is answered', () => held.log().includes('near'));
    expect((await places.members()).near.connections).toBeGreaterThan(0);
    await control.picketOk('quarantine', 'add', '--node', nodeIdOf('near'), '--reason', 'a test');
    await waitUntil('it is cut', () => !held.isRunning);
    await places.waitForPlace('region');
    expect(new Set(await times(3))).toEqual(new Set(['200 region']));
    await control.picketOk('quarantine', 'lift', '--node', nodeIdOf('near'));
  });
});
