import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import {
  enforcementPage,
  enforcementReport,
  type EnforcementReport,
} from '../../shared/protocol/enforcement.ts';
import { accessPage, operatorActionPage } from '../../shared/protocol/operator.ts';
import type { RunResult } from '../kit/child.ts';
import { decisionsBelow } from '../kit/access-records.ts';
import { curl } from '../kit/programs.ts';
import { stealState } from './attackers/stolen-state.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** Audit mode: a service from enforced to audited and back, by one command each; and what audit mode does not let pass. */

setDefaultTimeout(120_000);

const { web, reports, nobody } = SHOP_USERS;
const INVOICES = 'spiffe://example.org/invoices';
const SHOP_POLICY = readFileSync(join(import.meta.dirname, '../kit/policies/shop/policy.rego'), 'utf8');
/** What the report of this test shows is allowed by it. */
const FIXED = `${SHOP_POLICY}
allow if {
	input.target.path == "/invoices"
	input.request.method in {"GET", "POST"}
}

allow if {
	input.caller.path == "/web"
	input.target.path == "/database"
}
`;
/** Denies what has no ticket, and by a rule in audit what is not from the desk's office. */
const BY_RULES = `package picket.authz

denied contains "needs-ticket" if {
	input.request.protocol == "http"
	input.request.method != "GET"
	not input.request.headers["x-ticket"]
}

denied contains "office-only" if input.request.headers["x-from"] == "elsewhere"

audited := {"office-only"}

allow := {"allowed": count(denied - audited) == 0, "would_deny": denied & audited}
`;
/** A report looks back this far where something must not be in it any more. */
const JUST_NOW = ['--since', '3s'];
/** An agent that has found no server for a while tries again after half a minute. */
const SOON_MS = 60_000;
let shop: Shop;
let drafts = 0;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

const picket = async (...args: readonly string[]): Promise<RunResult> =>
  await shop.mesh.control.picket('enforcement', ...args);
const picketOk = async (...args: readonly string[]): Promise<string> =>
  await shop.mesh.control.picketOk('enforcement', ...args);
const report = async (scope: string, ...args: readonly string[]): Promise<EnforcementReport> =>
  await shop.mesh.control.picketJson(enforcementReport, 'enforcement', 'report', scope, ...args);

async function publish(rego: string): Promise<void> {
  const folder = join(shop.folder, `audit-${++drafts}`);
  mkdirSync(folder);
  writeFileSync(join(folder, 'policy.rego'), rego);
  await shop.mesh.control.picketOk('policy', 'publish', folder, '-m', `draft ${drafts}`);
}

const refund = async (): Promise<number> => (await shop.ask(web, '/refunds', '-X', 'POST')).status;
/** From a host without Picket. */
const askInPlaintext = async (path: string): Promise<number> =>
  (await curl(shop.outsider, { uid: 7009, args: [`http://${shop.store.host.ipv4}${path}`] })).status;

async function untilStatus(ask: () => Promise<number>, status: number): Promise<void> {
  await waitUntil(`the answer is ${status}`, async () => (await ask()) === status, SOON_MS);
}

type Shown = z.output<typeof accessPage>['items'][number];

async function findWouldDeny(isMeant: (record: Shown) => boolean): Promise<Shown> {
  return await waitUntil(
    'it is in the record',
    async () => {
      const filter = ['--would-deny', '--limit', '1000'];
      const { items } = await shop.mesh.control.picketJson(accessPage, 'audit', 'access', ...filter);
      expect(items.every(({ decision, would_deny }) => decision === 'allow' && would_deny === true)).toBe(
        true,
      );
      return items.find(isMeant);
    },
    SOON_MS,
  );
}

let probes = 0;

/** Whether a refund is allowed, as the record says of one that is made now. */
async function isAllowedNow(): Promise<boolean> {
  const parameter = `/refunds?probe-${++probes}=`;
  expect((await shop.ask(web, `${parameter}1`, '-X', 'POST')).status).toBe(201);
  const decided = await waitUntil('it is in the record', async () => {
    const found = await decisionsBelow(shop.mesh.control, INVOICES, '/refunds?probe-');
    return found.find((each) => each.path === `${parameter}*`);
  });
  return decided.would_deny === undefined;
}

const lineOf = ({ items }: EnforcementReport, path: string) => items.find((item) => item.path === path);

describe('a service', () => {
  test('that is enforced denies what the policy denies, and its report is empty', async () => {
    expect(await refund()).toBe(403);
    expect(await askInPlaintext('/invoices')).toBe(403);
    expect((await picketOk('list')).trim()).toBe('Every service is enforced.');
    expect(await report('/invoices')).toMatchObject({ scope: INVOICES, wouldDeny: 0, items: [] });
  });

  test('in audit mode lets it pass, for callers without identity too, and puts it on record', async () => {
    await picketOk('set', '/invoices', 'audit');
    await untilStatus(refund, 201);
    await untilStatus(async () => await askInPlaintext('/invoices?from=outside'), 200);
    const decided = await findWouldDeny(({ path }) => path === '/refunds');
    expect(decided).toMatchObject({
      caller_spiffe_id: 'spiffe://example.org/web',
      method: 'POST',
      reason: 'policy_deny',
      direction: 'inbound',
    });
    const series = 'direction="inbound",protocol="http",decision="would_deny",reason="policy_deny"';
    expect(await shop.store.metric(`picket_decisions_total{${series}}`)).toBeGreaterThanOrEqual(2);
    const caller = `picket_service_decisions_total{service="${INVOICES}",caller="plaintext"}`;
    expect(await shop.store.metric(caller)).toBeGreaterThanOrEqual(2);
    expect(await shop.store.metric('picket_services_in_audit')).toBe(1);
    expect((await shop.store.examine()).faults).toEqual([
      expect.stringMatching(/^agent enforcement warn: in audit mode.*example.org\/invoices$/),
    ]);
    const { items } = await shop.mesh.control.picketJson(enforcementPage, 'enforcement', 'list');
    expect(items).toMatchObject([{ scope: INVOICES, mode: 'audit', setBy: 'local:uid:0', services: 1 }]);
    const actions = await shop.mesh.control.picketJson(operatorActionPage, 'audit', 'operators');
    expect(actions.items[0]).toMatchObject({ action: 'enforcement.set', detail: { mode: 'audit' } });
  });

  test('is reported by caller, method and path, with the share of plaintext', async () => {
    await findWouldDeny(
      ({ path, caller_spiffe_id }) => path === '/invoices?from=*' && caller_spiffe_id === null,
    );
    const found = await report('/invoices', '--since', '1h');
    const times = found.items.reduce((sum, { count }) => sum + count, 0);
    expect(found.wouldDeny).toBe(times);
    expect(lineOf(found, '/refunds')).toMatchObject({ caller: 'spiffe://example.org/web', method: 'POST' });
    const plain = lineOf(found, '/invoices');
    expect(plain).toMatchObject({ caller: null, source: shop.outsider.ipv4, method: 'GET' });
    expect(found.plaintext).toBeGreaterThanOrEqual(2);
    expect(found.decisions).toBeGreaterThan(found.plaintext);
    const shown = await picketOk('report', '/invoices', '--since', '1h');
    expect(shown).toContain('POST /refunds');
    expect(shown).toContain(`${shop.outsider.ipv4} (plaintext)`);
    expect(shown).toMatch(/in plaintext: +\d+ \(\d+\.\d %\)/);
  });

  test('stays in audit mode over a restart of its agent while the server is away', async () => {
    const { control } = shop.mesh;
    await waitUntil('the mode is on disk', async () => {
      const { snapshot } = await stealState(shop.store);
      return snapshot.items.some(({ kind }) => kind === 'enforcement');
    });
    await control.stop('SIGKILL');
    await shop.store.stop('SIGKILL');
    await shop.store.start();
    await untilStatus(refund, 201);
    await control.start();
  });

  test('is not enforced again while that would break something, unless told so, and open connections go then', async () => {
    const refused = await picket('enforce', '/invoices');
    expect(refused.exitCode).toBe(5);
    expect(refused.stderr).toContain('POST /refunds');
    expect(refused.stderr).toContain('--yes');
    expect(await refund()).toBe(201);

    await picketOk('set', '/database', 'audit');
    await waitUntil('the query passes', async () => (await shop.query(web)).exitCode === 0, SOON_MS);
    await findWouldDeny(
      ({ protocol, target_spiffe_id: to }) => protocol === 'tcp' && to?.endsWith('/database') === true,
    );
    const sleeping = shop.query(web, 'select pg_sleep(15)');
    await waitUntil('it is under way', async () => {
      const active =
        "select count(*) from pg_stat_activity where query like '%pg_sleep(15)%' and state = 'active'";
      return Number((await shop.query(reports, active)).stdout) > 1;
    });
    await picketOk('enforce', '/database', '--yes');
    expect((await sleeping).exitCode).not.toBe(0);
    await waitUntil('it is denied', async () => (await shop.query(web)).exitCode !== 0, SOON_MS);
    await picketOk('clear', '/database');
  });

  test('whose policy was mended has an empty report and is enforced by one command: then 403 again for the rest', async () => {
    await publish(FIXED);
    // What a host decides it ships in its order: with this in the record, so is all that it denied before.
    await waitUntil('the host decides by it', async () => await isAllowedNow(), SOON_MS);
    await waitUntil(
      'nothing is left that enforcing would break',
      async () => (await report('/invoices', ...JUST_NOW)).wouldDeny === 0,
      SOON_MS,
    );
    expect(await picketOk('enforce', '/invoices', ...JUST_NOW)).toContain('enforce');
    await untilStatus(async () => (await shop.ask(web, '/refunds', '-X', 'DELETE')).status, 403);
    expect(await refund()).toBe(201);
    expect(await askInPlaintext('/invoices')).toBe(200);
    await picketOk('clear', '/invoices');
    expect((await picketOk('list')).trim()).toBe('Every service is enforced.');
  });
});

describe('a scope', () => {
  test('of all below an ID holds but for what is named itself', async () => {
    await picketOk('set', '/*', 'audit');
    await picketOk('set', '/invoices', 'enforce');
    await publish(SHOP_POLICY);
    await waitUntil('the query passes', async () => (await shop.query(web)).exitCode === 0, SOON_MS);
    await untilStatus(async () => (await shop.ask(web, '/refunds', '-X', 'DELETE')).status, 403);
    await picketOk('clear', '/invoices');
    await untilStatus(async () => (await shop.ask(web, '/upload/x', '-X', 'DELETE')).status, 405);
  });

  test('that holds no service is said to', async () => {
    expect((await picket('set', '/invocies', 'audit')).stderr).toContain('No service is registered there');
    await picketOk('clear', '/invocies');
  });

  test.each(['shop', 'spiffe://elsewhere.org/shop', '/shop/', '/sh*'])('%s is refused', async (scope) => {
    expect((await picket('set', scope, 'audit')).exitCode).toBe(2);
  });
});

describe('what is not the policy’s is refused in audit mode too', () => {
  test('a process without identity, a request that can be read in two ways, a workload in quarantine', async () => {
    expect((await shop.ask(web, '/upload/x', '-X', 'DELETE')).status).toBe(405);
    const stranger = await shop.ask(nobody, '/invoices');
    expect(stranger.status).toBe(0);
    expect(await shop.why(nobody)).toContain('caller_unidentified');

    const smuggled =
      'POST /invoices HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    expect(await shop.sendRaw(web, smuggled)).toStartWith('HTTP/1.1 400');

    const { control } = shop.mesh;
    await control.picketOk('quarantine', 'add', 'spiffe://example.org/web', '--reason', 'a test');
    await waitUntil('it is refused', async () => (await shop.ask(web, '/invoices')).status !== 200, SOON_MS);
    await control.picketOk('quarantine', 'lift', 'spiffe://example.org/web');
    await untilStatus(async () => (await shop.ask(web, '/invoices')).status, 200);
    await picketOk('clear', '/*');
    await untilStatus(async () => (await shop.ask(web, '/refunds', '-X', 'DELETE')).status, 403);
  });
});

describe('a rule', () => {
  test('in audit is named in record and report, while the others are enforced', async () => {
    await publish(BY_RULES);
    const ask = async (...headers: readonly string[]): Promise<number> =>
      (await shop.ask(web, '/refunds', '-X', 'POST', ...headers.flatMap((each) => ['-H', each]))).status;
    await untilStatus(async () => await ask('X-Ticket: 7'), 201);
    await untilStatus(async () => await ask(), 403);
    expect(await ask('X-From: elsewhere')).toBe(403);
    expect(await ask('X-From: elsewhere', 'X-Ticket: 7')).toBe(201);
    const decided = await findWouldDeny(({ rules }) => rules?.includes('office-only') === true);
    expect(decided).toMatchObject({ rules: ['office-only'], message: 'Would be denied by office-only' });
    const found = await report('/invoices', '--since', '1h');
    expect(found.items.some(({ rules }) => rules.join() === 'office-only')).toBe(true);
    await shop.mesh.control.picketOk('policy', 'rollback', '1');
    await untilStatus(async () => await ask('X-Ticket: 7'), 403);
  });
});
