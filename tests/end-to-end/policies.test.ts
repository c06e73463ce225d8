import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { policyActivated, policyAnswer, policyPage } from '../../shared/protocol/operator.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** From a Rego file on the operator's disk to decisions on every host. */

setDefaultTimeout(60_000);

const { web } = SHOP_USERS;
const SHOP_POLICY = readFileSync(join(import.meta.dirname, '../kit/policies/shop/policy.rego'), 'utf8');
const REFUNDS = `${SHOP_POLICY}
allow if {
	input.caller.path == "/web"
	input.request.method == "POST"
	input.request.path == "/refunds"
}
`;
let shop: Shop;
let drafts = 0;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

function write(rego: string): string {
  const folder = join(shop.folder, `policy-${++drafts}`);
  mkdirSync(folder);
  writeFileSync(join(folder, 'policy.rego'), rego);
  return folder;
}

const refund = async (): Promise<number> => (await shop.ask(web, '/refunds', '-X', 'POST')).status;

describe('picket policy', () => {
  test('publish puts a new policy in force on every host, rollback brings an old one back', async () => {
    const { control } = shop.mesh;
    expect(await refund()).toBe(403);
    const published = await control.picketJson(
      policyActivated,
      'policy',
      'publish',
      write(REFUNDS),
      '-m',
      'refunds',
    );
    await waitUntil('the refund is allowed', async () => (await refund()) === 201, 5000);
    const back = await control.picketJson(policyActivated, 'policy', 'rollback', '1');
    expect(back.sequence).toBeGreaterThan(published.sequence);
    await waitUntil('the refund is denied again', async () => (await refund()) === 403, 5000);
  });

  test.each([
    ['does not parse', 'package picket.authz\n\nallow if {', /policy\.rego:\d+/],
    [
      'reads a field that no request has',
      'package picket.authz\n\nallow if input.caler.path == "/web"',
      /caler/,
    ],
    [
      'fails its own test',
      `${SHOP_POLICY}\ntest_it if allow with input as {"caller": {"path": "/x"}}`,
      /test_it/,
    ],
    ['has no rule that decides', 'package something.else\n\nallow := true', /picket\.authz/],
  ])('publish refuses a policy that %s, with its place, and changes nothing', async (_name, rego, told) => {
    const { control } = shop.mesh;
    const before = await control.picketJson(policyPage, 'policy', 'list');
    const { exitCode, stderr } = await control.picket('policy', 'publish', write(rego), '-m', 'bad');
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(told);
    expect(await control.picketJson(policyPage, 'policy', 'list')).toEqual(before);
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
  });

  test('evaluate says what would be decided, by which rules', async () => {
    const ask = async (method: string): Promise<unknown> => {
      const ids = ['--caller', 'spiffe://example.org/web', '--target-id', 'spiffe://example.org/invoices'];
      const args = ['policy', 'evaluate', ...ids, '--method', method, '--path', '/invoices'];
      return await shop.mesh.control.picketJson(policyAnswer, ...args);
    };
    expect(await ask('GET')).toMatchObject({ decision: 'allow', reason: 'policy_allow' });
    expect(await ask('DELETE')).toMatchObject({ decision: 'deny', reason: 'policy_deny' });
  });

  test('a connection that is open loses its permit with the policy', async () => {
    const { control } = shop.mesh;
    const sleeping = shop.query(SHOP_USERS.reports, 'select pg_sleep(15)');
    await waitUntil('the query runs', async () => {
      const { stdout } = await shop.query(
        SHOP_USERS.reports,
        "select count(*) from pg_stat_activity where query like '%pg_sleep(15)%'",
      );
      return Number(stdout) > 1;
    });
    const startedMs = performance.now();
    await control.picketOk(
      'policy',
      'publish',
      write('package picket.authz\n\ndefault allow := false\n'),
      '-m',
      'nothing',
    );
    expect((await sleeping).exitCode).not.toBe(0);
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    await control.picketOk('policy', 'rollback', '1');
    await waitUntil('requests pass again', async () => (await shop.ask(web, '/invoices')).status === 200);
  });
});
