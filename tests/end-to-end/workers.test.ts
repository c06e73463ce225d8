import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { statusAnswer, type StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { decisionsBelow } from '../kit/access-records.ts';
import { Child } from '../kit/child.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { picketBinary } from '../kit/picket-binary.ts';
import { isAlive, lifeOf } from '../kit/process-lives.ts';
import { psqlCommand } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';
import { eventsOf } from '../kit/witnesses.ts';

/** The data path in two processes on each host. */

setDefaultTimeout(120_000);

const INVOICES = 'spiffe://example.org/invoices';
const REPORTS = 'spiffe://example.org/reports';
const NOTHING = 'package picket.authz\n\ndefault allow := false\n';
const WORKERS = 2;
/** Each its own process, so that it is all but impossible that all go to one worker. */
const HELD = 16;

let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open({ settings: { proxy: { workers: WORKERS } } });
});

afterAll(async () => {
  await shop.close();
});

async function statusOf(agent: MeshHost): Promise<StatusAnswer> {
  return statusAnswer.parse(JSON.parse(await agent.picketOk('agent', 'status', '--json')));
}

async function workerPids(agent: MeshHost): Promise<readonly number[]> {
  return (await statusOf(agent)).workers.flatMap(({ pid }) => pid ?? []);
}

async function metricOfEach(agent: MeshHost, name: string): Promise<readonly number[]> {
  const of = async (worker: number): Promise<number> =>
    (await agent.metric(`${name}{worker="${worker}"}`)) ?? 0;
  return await Promise.all(Array.from({ length: WORKERS }, async (_, worker) => await of(worker)));
}

/** Queries of the database that last until they are cut. */
class HeldQueries {
  readonly #children: readonly Child[];

  constructor(name: string) {
    this.#children = Array.from({ length: HELD }, (_, i) => {
      return new Child({
        command: psqlCommand(shop.desk.host, {
          uid: SHOP_USERS.reports,
          server: shop.store.host.ipv4,
          sql: 'select pg_sleep(3600)',
        }),
        logFile: join(shop.folder, `${name}-${i}.log`),
        cwd: '/',
      });
    });
  }

  get running(): number {
    return this.#children.filter(({ isRunning }) => isRunning).length;
  }

  /** Waits until all go through both workers of the calling host. */
  async held(): Promise<void> {
    await waitUntil('the queries are under way in both workers', async () => {
      const each = await metricOfEach(shop.desk, 'picket_worker_connections');
      return each.every((count) => count > 0) && each.reduce((a, b) => a + b) === HELD;
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map(async (child) => await child.stop('SIGKILL')));
  }
}

/** Asks without pause, each time from a new process, until it is stopped; what came of it. */
function askOnAndOn(uid: number, path: string): { stop(): Promise<readonly (number | string)[]> } {
  const outcomes: (number | string)[] = [];
  const end = new AbortController();
  const asking = (async () => {
    for (let i = 0; !end.signal.aborted; i++) {
      const { status, exitCode } = await shop.ask(uid, `${path}/${i}`);
      outcomes.push(status === 0 ? `curl ${exitCode}` : status);
    }
  })();
  return {
    stop: async () => {
      end.abort();
      await asking;
      return outcomes;
    },
  };
}

async function ready(agent: MeshHost): Promise<void> {
  await waitUntil(`all workers of ${agent.name} run`, async () => await agent.isReady(), 30_000);
}

describe('two workers', () => {
  test('are told by status, and carry what the agent would', async () => {
    const { workers, missing } = await statusOf(shop.store);
    expect(missing).toBeUndefined();
    expect(workers).toHaveLength(WORKERS);
    expect(new Set(workers.map(({ pid }) => pid)).size).toBe(WORKERS);
    expect(workers.every(({ isReady, policySequence }) => isReady && policySequence > 0)).toBe(true);
    expect(await shop.desk.picketOk('agent', 'status')).toContain('2 of 2 run');
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).body).toContain('URI=spiffe://example.org/web');
    expect((await shop.ask(SHOP_USERS.reports, '/invoices')).status).toBe(403);
  });

  test('get each peer to one of them: its connections are used again, whichever worker calls', async () => {
    const before = {
      decisions: await metricOfEach(shop.store, 'picket_worker_decisions'),
      handshakes: await metricOfEach(shop.store, 'picket_worker_handshakes'),
    };
    const asked = 30;
    for (let i = 0; i < asked; i++)
      expect((await shop.ask(SHOP_USERS.web, '/invoices/one')).status).toBe(200);
    const more = (name: string, earlier: readonly number[]): Promise<readonly number[]> =>
      metricOfEach(shop.store, name).then((now) => now.map((value, i) => value - (earlier[i] ?? 0)));
    const decisions = await more('picket_worker_decisions', before.decisions);
    expect(decisions.toSorted((a, b) => a - b)).toEqual([0, asked]);
    const handshakes = await more('picket_worker_handshakes', before.handshakes);
    // One for each worker that calls, and perhaps another where an older one had just ended.
    expect(handshakes.reduce((a, b) => a + b)).toBeLessThanOrEqual(2 * WORKERS);
    // Programs of the calling host are spread.
    const callers = await metricOfEach(shop.desk, 'picket_worker_decisions');
    expect(await shop.desk.metric('picket_connections_max')).toBe(10_000);
    expect(callers).toHaveLength(WORKERS);
  });

  test('tell whoever is refused why, whichever refused him', async () => {
    for (let i = 0; i < 4; i++) {
      expect((await shop.ask(SHOP_USERS.nobody, '/invoices')).status).toBe(0);
      expect(await shop.why(SHOP_USERS.nobody)).toContain('caller_unidentified');
    }
  });
});

describe('when one of two workers is killed under load', () => {
  test('the other goes on undisturbed, it comes back, nobody is turned away, and nothing passes undecided', async () => {
    const queries = new HeldQueries('killed');
    try {
      await queries.held();
      const [first = 0, second = 0] = await workerPids(shop.desk);
      const restarts = (await statusOf(shop.desk)).workers.map((each) => each.restarts);
      const [ofFirst = 0, ofSecond = 0] = await metricOfEach(shop.desk, 'picket_worker_connections');
      const allowed = askOnAndOn(SHOP_USERS.web, '/invoices/killed');
      const denied = askOnAndOn(SHOP_USERS.nobody, '/invoices/never');
      const wrong = askOnAndOn(SHOP_USERS.reports, '/invoices/wrong');
      process.kill(first, 'SIGKILL');
      await waitUntil('its queries have ended', () => queries.running <= HELD - ofFirst);
      await ready(shop.desk);
      const [, secondNow] = await workerPids(shop.desk);
      expect(secondNow).toBe(second);
      expect(queries.running).toBe(ofSecond);
      // And on the called side, where all of this host's requests are in one worker.
      const decisions = await metricOfEach(shop.store, 'picket_worker_decisions');
      const busy = decisions.indexOf(Math.max(...decisions));
      process.kill((await workerPids(shop.store))[busy] ?? 0, 'SIGKILL');
      await waitUntil('the queries were cut with it', () => queries.running === 0);
      await ready(shop.store);
      await waitUntil(
        'requests pass again',
        async () => (await shop.ask(SHOP_USERS.web, '/invoices')).status === 200,
      );
      const outcomes = await allowed.stop();
      const { workers } = await statusOf(shop.desk);
      expect(workers.map((each, i) => each.restarts - (restarts[i] ?? 0))).toEqual([1, 0]);
      // Whoever was under way with one that died was cut (curl 52, 56); nobody was refused a connection, or waited in vain.
      const cut = outcomes.filter((each) => each !== 200);
      expect(cut.filter((each) => !['curl 52', 'curl 56', 'curl 35'].includes(String(each)))).toEqual([]);
      expect(cut.length).toBeLessThanOrEqual(4);
      expect(outcomes.length).toBeGreaterThan(cut.length);
      expect((await denied.stop()).filter((each) => typeof each === 'number')).toEqual([]);
      expect((await wrong.stop()).filter((each) => each !== 403 && typeof each === 'number')).toEqual([]);
      // Everything that the application has seen stands in the record, allowed.
      const seen = (await shop.readNginxLog()).flatMap(
        (line) => /"GET (\/invoices\/(?:killed|never|wrong)\/\d+) /.exec(line)?.[1] ?? [],
      );
      expect(seen.length).toBeGreaterThan(0);
      expect(seen.filter((path) => !path.startsWith('/invoices/killed/'))).toEqual([]);
      await waitUntil('the record is whole', async () => {
        const decided = await decisionsBelow(shop.mesh.control, INVOICES, '/invoices/killed/');
        const paths = new Set(decided.filter((each) => each.decision === 'allow').map(({ path }) => path));
        return seen.every((path) => paths.has(path));
      });
    } finally {
      await queries.stop();
    }
  });

  test('one that hangs is replaced as well', async () => {
    const [first = 0] = await workerPids(shop.store);
    process.kill(first, 'SIGSTOP');
    await waitUntil('it is replaced', async () => !(await workerPids(shop.store)).includes(first), 60_000);
    await ready(shop.store);
    expect(eventsOf(shop.store.log(), 'worker_silent').length).toBeGreaterThan(0);
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  });
});

describe('what changes', () => {
  test('cuts in all workers: a quarantine', async () => {
    const queries = new HeldQueries('quarantined');
    try {
      await queries.held();
      await shop.mesh.control.picketOk('quarantine', 'add', REPORTS, '--reason', 'a test');
      await waitUntil('all queries were cut', () => queries.running === 0, 30_000);
      expect((await shop.query(SHOP_USERS.reports)).exitCode).not.toBe(0);
    } finally {
      await shop.mesh.control.picket('quarantine', 'lift', REPORTS);
      await queries.stop();
    }
    await waitUntil('queries pass again', async () => (await shop.query(SHOP_USERS.reports)).exitCode === 0);
  });

  test('cuts in all workers: a policy', async () => {
    const queries = new HeldQueries('denied');
    try {
      await queries.held();
      const before = (await statusOf(shop.desk)).policy?.sequence ?? 0;
      const policy = join(shop.folder, 'nothing');
      mkdirSync(policy);
      writeFileSync(join(policy, 'policy.rego'), NOTHING);
      await shop.mesh.control.picketOk('policy', 'publish', policy, '-m', 'nothing');
      await waitUntil('all queries were cut', () => queries.running === 0, 30_000);
      // The other host may have cut them.
      await waitUntil('both have it here', async () => {
        const { policy: known, workers } = await statusOf(shop.desk);
        const newest = Math.max(before + 1, known?.sequence ?? 0);
        return workers.every(({ policySequence }) => policySequence === newest);
      });
    } finally {
      const policy = join(import.meta.dirname, '../kit/policies/shop');
      await shop.mesh.control.picketOk('policy', 'publish', policy, '-m', 'the shop');
      await queries.stop();
    }
    await waitUntil('queries pass again', async () => (await shop.query(SHOP_USERS.reports)).exitCode === 0);
  });
});

describe('with the agent', () => {
  test('killed, its workers end too, and nothing passes until the next one is there', async () => {
    const workers = (await workerPids(shop.desk)).map(lifeOf);
    await shop.desk.stop('SIGKILL');
    await waitUntil('the workers have ended', () => !workers.some(isAlive));
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(0);
    await shop.desk.start();
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  });

  test('stopped and started without workers, what they recorded goes to the server all the same', async () => {
    const lane = join(shop.desk.folder, 'data/audit/lane-1');
    expect(existsSync(lane)).toBe(true);
    expect(await shop.desk.stop()).toBe(0);
    await shop.desk.start({ env: { PICKET_AGENT__PROXY__WORKERS: '1' } });
    await waitUntil('the lane of the second worker was shipped', () => !existsSync(lane));
    expect((await statusOf(shop.desk)).workers).toEqual([]);
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  });

  test('running on a file that was replaced, a worker of its own build comes in the place of one that died', async () => {
    const program = join(shop.folder, 'picket');
    copyFileSync(picketBinary(), program);
    await shop.desk.stop();
    // In the place of the program that it is started with.
    await shop.desk.start({ through: ['sh', '-c', `shift; exec ${program} "$@"`, 'sh'] });
    copyFileSync('/bin/false', `${program}.new`);
    renameSync(`${program}.new`, program);
    const [first = 0] = await workerPids(shop.desk);
    process.kill(first, 'SIGKILL');
    await waitUntil('it was replaced', async () => {
      const { workers } = await statusOf(shop.desk);
      return workers.every(({ isReady, pid }) => isReady && pid !== first);
    });
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
    await shop.desk.stop();
    await shop.desk.start();
  });

  test('absent, a worker does not start', async () => {
    const alone = await shop.desk.picket(['agent', 'worker']);
    expect(alone.exitCode).toBe(5);
    expect(alone.stderr).toContain('started by the agent');
    const other = await shop.desk.picket(['agent', 'worker', '--build', '0.0.1 (000000000000)']);
    expect(other.exitCode).toBe(5);
    expect(other.stderr).toContain('it says 0.0.1 (000000000000), this is ');
  });
});
