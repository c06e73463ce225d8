import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { startingAgentState } from '../../tests/kit/agent-state.ts';
import { run, type RunResult } from '../../tests/kit/child.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { requireRoot } from '../../tests/kit/netns.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { Upgraded } from '../handover/upgrade.ts';
import { RecentDenials } from '../proxy/records/recent-denials.ts';
import { makeDomain, makeIdentity, makeSvid } from '../workload-api/fixtures/workload-rig.ts';
import { captureAnswer, statusAnswer, whyAnswer } from './admin-answers.ts';
import { startAdmin, type Admin } from './admin.ts';
import type { AgentState } from './status.ts';

setDefaultTimeout(60_000);

const ALICE = 61_001;
const BOB = 61_002;

const RECORD: AccessRecord = {
  decision_id: 'd-1',
  ts: '2026-11-24T10:00:00.000Z',
  direction: 'outbound',
  caller_spiffe_id: parseSpiffeId('spiffe://example.org/web'),
  target_spiffe_id: null,
  source: '10.0.0.1:40000',
  destination: '10.0.0.2:80',
  protocol: 'tcp',
  method: null,
  path: null,
  decision: 'deny',
  reason: 'target_unknown',
  message: 'the destination is not registered in the mesh',
  policy_version: 3,
  latency_us: 12,
};

/** As the Workload API has them: on the class, where JSON does not look. */
class LiveCounts {
  get connections(): number {
    return 1;
  }

  get streams(): number {
    return 2;
  }
}

let folder: string;
let path: string;
let denials: RecentDenials;
let state: AgentState;
let rules: () => Promise<string>;
let admin: Admin | undefined;
let upgrade: (() => Promise<Upgraded>) | undefined;
const clock = new FakeClock();

beforeEach(() => {
  requireRoot('asking as other users');
  folder = mkdtempSync(join(tmpdir(), 'picket-admin-'));
  chmodSync(folder, 0o755);
  path = join(folder, 'admin.sock');
  denials = new RecentDenials();
  rules = () => Promise.resolve('table inet picket {}');
  state = startingAgentState({ startedAtMs: Date.parse('2026-11-24T10:00:00.000Z') });
});

afterEach(async () => {
  await admin?.stop();
  upgrade = undefined;
  rmSync(folder, { recursive: true });
});

async function start(agentUid = 0): Promise<void> {
  admin = await startAdmin({
    path,
    clock,
    state,
    denials,
    capture: { show: () => rules() },
    ...(upgrade === undefined ? {} : { upgrade }),
    agentUid,
    log: createLog({ level: 'error', nowMs: () => 0, write: () => undefined }),
  });
}

/** Asks by curl as a user. */
async function ask(target: string, uid = 0, ...args: string[]): Promise<RunResult> {
  const user = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const curl = ['curl', '-s', '-m', '10', '-w', '\n%{http_code}', '--unix-socket', path];
  return await run([...user, ...curl, ...args, `http://agent${target}`], { cwd: '/' });
}

async function answer(target: string, uid = 0): Promise<{ status: number; body: unknown }> {
  const { stdout } = await ask(target, uid);
  const end = stdout.lastIndexOf('\n');
  return { status: Number(stdout.slice(end)), body: JSON.parse(stdout.slice(0, end)) as unknown };
}

describe('GET /status', () => {
  test('startAdmin() tells root how an agent stands that has not attested yet', async () => {
    await start();
    const { status, body } = await answer('/status');
    expect(status).toBe(200);
    expect(statusAnswer.parse(body)).toMatchObject({
      missing: 'the host has not attested yet',
      agent: null,
      policy: null,
      capture: { mode: 'off', isIntact: false },
    });
  });

  test('startAdmin() tells root identities with their ends, policy, capture and spool', async () => {
    const domain = await makeDomain('example.org');
    const identity = await makeIdentity(domain, '/web');
    const agentSvid = await makeSvid(domain, 'spiffe://example.org/picket/agent/tpm/desk');
    const source = {
      identities: new WatchedValue(new Map([[identity.entry.entryId, identity]])),
      bundles: new WatchedValue(new Map()),
      agentSvid: new WatchedValue(agentSvid),
    };
    state = {
      ...state,
      findMissing: () => undefined,
      identities: () => source,
      server: () => ({ isConnected: true, isClockSkewed: false }),
      policy: () => ({ version: 3, sequence: 5 }),
      capture: () => ({
        backend: 'nftables',
        isIntact: true,
        repairs: 2,
        isWatched: true,
        isContested: false,
        transparentPorts: { steered: [], leftAlone: [] },
      }),
      localPorts: () => [80],
      transparentPorts: () => ({ steered: [], leftAlone: [] }),
      spool: () => ({ epoch: 'e', lastSequence: 9, depth: 4, bytes: 1000, refused: 1, isHeldBack: true }),
      workloadApi: () => new LiveCounts(),
      holderSearch: () => 'bpf_walk',
      connections: () => 7,
      maxConnections: () => 10,
      dataDirectory: folder,
    };
    await start();
    const told = statusAnswer.parse((await answer('/status')).body);
    expect(told).toMatchObject({
      agent: { spiffeId: 'spiffe://example.org/picket/agent/tpm/desk' },
      identities: [{ spiffeId: 'spiffe://example.org/web', entryId: identity.entry.entryId }],
      server: { isConnected: true },
      policy: { version: 3, sequence: 5 },
      capture: { mode: 'nftables', isIntact: true, repairs: 2, localPorts: [80] },
      audit: { depth: 4, bytes: 1000, refused: 1 },
      workloadApi: { connections: 1, streams: 2 },
      holderSearch: 'bpf_walk',
      connections: 7,
      maxConnections: 10,
      dataDirectory: folder,
    });
    expect(told.missing).toBeUndefined();
    expect(told.descriptors.open).toBeGreaterThan(2);
    expect(told.descriptors.limit).toBeGreaterThan(told.descriptors.open);
    expect(told.disk?.totalBytes).toBeGreaterThan(told.disk?.freeBytes ?? Infinity);
    expect(Date.parse(told.identities[0]!.notAfter)).toBe(identity.svid.notAfterMs);
    expect(JSON.stringify(told)).not.toContain('PRIVATE');
  });

  test('startAdmin() refuses other users, and takes the agent’s own', async () => {
    await start(BOB);
    const refused = await answer('/status', ALICE);
    expect(refused.status).toBe(403);
    expect(refused.body).toMatchObject({ code: 'permission_denied', reason: 'not_root' });
    expect((await answer('/status', BOB)).status).toBe(200);
  });
});

describe('GET /why', () => {
  beforeEach(() => {
    denials.note({ record: { ...RECORD, decision_id: 'alice' }, isTold: false, uid: ALICE, pid: 1 });
    denials.note({ record: { ...RECORD, decision_id: 'bob' }, isTold: false, uid: BOB, pid: 2 });
    denials.note({ record: { ...RECORD, decision_id: 'nobody' }, isTold: false, uid: null, pid: null });
  });

  async function idsFor(uid: number, query = ''): Promise<readonly string[]> {
    const { body } = await answer(`/why${query}`, uid);
    return whyAnswer.parse(body).denials.map(({ record }) => record.decision_id);
  }

  test('startAdmin() shows a user the denials of his own processes only, and root all, newest first', async () => {
    await start();
    expect(await idsFor(ALICE)).toEqual(['alice']);
    expect(await idsFor(BOB)).toEqual(['bob']);
    expect(await idsFor(61_003)).toEqual([]);
    expect(await idsFor(0)).toEqual(['nobody', 'bob', 'alice']);
    expect(await idsFor(0, '?last=1')).toEqual(['nobody']);
  });

  test.each(['0', '1001', '-1', '1e3', 'x', '', '99999'])('startAdmin() refuses last=%s', async (last) => {
    await start();
    const { status, body } = await answer(`/why?last=${last}`, ALICE);
    expect(status).toBe(400);
    expect(body).toMatchObject({ reason: 'last_invalid' });
  });
});

describe('GET /capture', () => {
  test('startAdmin() shows the rules to root alone', async () => {
    await start();
    const { body } = await answer('/capture');
    expect(captureAnswer.parse(body).rules).toBe('table inet picket {}');
    expect((await answer('/capture', ALICE)).status).toBe(403);
  });

  test('startAdmin() does not show what went wrong inside', async () => {
    rules = () => Promise.reject(new Error('secret detail'));
    await start();
    const { status, body } = await answer('/capture');
    expect(status).toBe(500);
    expect(JSON.stringify(body)).not.toContain('secret');
  });
});

describe('POST /upgrade', () => {
  const upgraded = { pid: 7, version: '2.0.0', tookMs: 5, connections: 1, drainMs: 9 };

  test('startAdmin() replaces the agent for root and the agent’s own user, and for nobody else', async () => {
    let calls = 0;
    upgrade = () => {
      calls += 1;
      return Promise.resolve(upgraded);
    };
    await start(ALICE);
    expect((await ask('/upgrade', BOB, '-X', 'POST')).stdout).toEndWith('403');
    expect(calls).toBe(0);
    for (const uid of [0, ALICE])
      expect((await ask('/upgrade', uid, '-X', 'POST')).stdout).toStartWith(JSON.stringify(upgraded));
    expect(calls).toBe(2);
    expect((await ask('/upgrade', 0)).stdout).toEndWith('404');
  });

  test('startAdmin() tells why the agent was not replaced', async () => {
    upgrade = () => Promise.reject(new PicketError('unavailable', 'successor_failed', 'It does not start'));
    await start();
    expect((await ask('/upgrade', 0, '-X', 'POST')).stdout).toContain('It does not start');
  });

  test('startAdmin() answers who asked before it was retired, and leaves its path to others', async () => {
    upgrade = () => {
      admin?.retire();
      return Promise.resolve(upgraded);
    };
    await start();
    const asked = await ask('/upgrade', 0, '-X', 'POST');
    expect(asked.stdout).toStartWith(JSON.stringify(upgraded));
    expect((await ask('/status')).exitCode).not.toBe(0);
    await waitUntil('nobody is connected', () => admin?.connections === 0);
  });
});

describe('the admin socket', () => {
  test('startAdmin() lets every user connect and changes nothing for anybody', async () => {
    await start();
    expect(statSync(path).mode & 0o777).toBe(0o666);
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      for (const target of ['/status', '/why', '/capture']) {
        expect((await ask(target, 0, '-X', method)).stdout).toEndWith('404');
      }
    }
    expect((await answer('/nothing')).status).toBe(404);
  });

  test('startAdmin() closes connections beyond sixteen of a user', async () => {
    await start();
    const sockets: Socket[] = [];
    const ended: Promise<void>[] = [];
    for (let i = 0; i < 17; i++) {
      const socket = connect(path);
      sockets.push(socket);
      ended.push(new Promise<void>((resolve) => socket.once('close', () => resolve())));
    }
    await Promise.race(ended);
    expect(sockets.filter((socket) => socket.destroyed)).toHaveLength(1);
    expect((await answer('/why', ALICE)).status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });

  test('startAdmin() answers a user so often in a second, on however many connections, and others all the same', async () => {
    await start();
    const countAnswers = async (uid: number): Promise<number> =>
      (await ask('/why?last=[1-25]', uid)).stdout.split('\n200').length - 1;
    expect(await countAnswers(ALICE)).toBe(20);
    expect((await ask('/why', ALICE)).stdout).toEndWith('000');
    expect(await countAnswers(BOB)).toBe(20);
    expect(await countAnswers(0)).toBe(25);
    clock.advance(1000);
    expect((await answer('/why', ALICE)).status).toBe(200);
  });

  test('startAdmin() ends a connection after half a minute, however its bytes are spread', async () => {
    await start();
    const socket = connect(path);
    await once(socket, 'connect');
    let isClosed = false;
    socket.once('close', () => (isClosed = true));
    socket.write('GET /why HTTP/1.1\r\n');
    await waitUntil('it was taken in', () => clock.pending === 1);
    clock.advance(29_999);
    socket.write('X: y');
    await Bun.sleep(50);
    expect(isClosed).toBe(false);
    clock.advance(1);
    await waitUntil('it is closed', () => isClosed);
    expect(clock.pending).toBe(0);
  });

  test('startAdmin() removes its socket when it stops, twice without harm', async () => {
    await start();
    await admin!.stop();
    await admin!.stop();
    expect(existsSync(path)).toBe(false);
  });
});
