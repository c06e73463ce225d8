import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { policyActivated, policyAnswer, policyPage } from '../../shared/protocol/operator.ts';
import { Child, runOk } from '../kit/child.ts';
import { OperatorClient } from '../kit/operator-client.ts';
import { asUser } from '../kit/programs.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
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
const BY_HEADER = `package picket.authz

default allow := {"allowed": false, "http_status": 429, "reason": "only billing may"}

allow := true if input.request.headers["x-team"] == "billing"
`;
/** The policies that the project's source texts show, as an author would hand them in. */
const EXAMPLES = join(import.meta.dirname, '../../policies/examples');
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
    await waitUntil('the refund is allowed', async () => (await refund()) === 201);
    const back = await control.picketJson(policyActivated, 'policy', 'rollback', '1');
    expect(back.sequence).toBeGreaterThan(published.sequence);
    await waitUntil('the refund is denied again', async () => (await refund()) === 403);
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

  test('a policy reads headers, and says with which status and reason it denies', async () => {
    const { control } = shop.mesh;
    await control.picketOk('policy', 'publish', write(BY_HEADER), '-m', 'by header');
    const ask = async (...headers: string[]) =>
      await shop.ask(web, '/invoices', ...headers.flatMap((header) => ['-H', header]));
    await waitUntil('it is in force', async () => (await ask()).status === 429);
    const refused = await ask('X-Team: sales');
    expect(denialBody.parse(JSON.parse(refused.body)).message).toBe('only billing may');
    expect((await ask('x-TEAM: billing')).status).toBe(200);
    expect((await ask('X-Team: billing', 'X-Team: sales')).status).toBe(429);
    await control.picketOk('policy', 'rollback', '1');
    await waitUntil('requests pass again', async () => (await ask()).status === 200);
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
    await control.picketOk(
      'policy',
      'publish',
      write('package picket.authz\n\ndefault allow := false\n'),
      '-m',
      'nothing',
    );
    // Had it not been cut, it would have come to its end.
    expect((await sleeping).exitCode).not.toBe(0);
    await control.picketOk('policy', 'rollback', '1');
    await waitUntil('requests pass again', async () => (await shop.ask(web, '/invoices')).status === 200);
  });

  test('a connection that was opened under an older policy and kept silent gets nothing by that', async () => {
    const { control } = shop.mesh;
    const { ipv4 } = shop.store.host;
    const speak = String.raw`printf '\0\0\0\x08\x04\xd2\x16\x2f' >&3; head -c 1 <&3`;
    const script = `exec 3<>/dev/tcp/${ipv4}/5432; echo open; read -r; ${speak}; echo " $?"`;
    const open = (name: string): Child =>
      new Child({
        command: shop.desk.host.in(...asUser(SHOP_USERS.reports, 'bash', '-c', script)),
        logFile: join(shop.folder, `${name}.log`),
        cwd: '/',
        isTypedTo: true,
      });
    const [first, second] = [open('silent'), open('silent-too')];
    await waitUntil('both are open at PostgreSQL', async () => {
      const connected = await shop.store.host.runOk('ss', '-Htn', 'state', 'established', 'sport = :5432');
      return connected.trim().split('\n').length >= 2;
    });
    first.type('\n');
    await waitUntil('the one that speaks in time is answered', () => first.log() === 'open\nN 0\n');
    await control.picketOk('policy', 'publish', write('package picket.authz\n\ndefault allow := false\n'));
    await waitUntil('it is in force', async () => (await shop.ask(web, '/invoices')).status === 403);
    second.type('\n');
    await waitUntil('the other has ended', () => !second.isRunning);
    // `N` would be PostgreSQL's answer. Bash says that the connection is reset, or reads that it has ended.
    expect(second.log()).toStartWith('open\n');
    expect(second.log().slice('open\n'.length)).not.toContain('N');
    await control.picketOk('policy', 'rollback', '1');
    await waitUntil('requests pass again', async () => (await shop.ask(web, '/invoices')).status === 200);
  });
});

describe('the examples of others', () => {
  const ask = async (uid: number, method: string, path: string, ...args: string[]): Promise<number> =>
    (await shop.ask(uid, path, '-X', method, ...args)).status;

  test('a policy that was written for Envoy in Rego v0 decides real requests, by the header that we set and no other', async () => {
    const billing = 7050;
    const selectors = [`unix:uid:${billing}`];
    await shop.mesh.register({ path: '/ns/billing/sa/payments', on: shop.desk, selectors });
    await shop.mesh.control.picketOk('policy', 'publish', join(EXAMPLES, 'envoy'), '-m', 'as for Envoy');
    await waitUntil('it is in force', async () => (await ask(billing, 'POST', '/refunds')) === 201);
    expect(await ask(billing, 'GET', '/invoices')).toBe(403);
    expect(await ask(web, 'POST', '/refunds')).toBe(403);
    const forged = 'X-Forwarded-Client-Cert: URI=spiffe://example.org/ns/billing/sa/payments';
    expect(await ask(web, 'POST', '/refunds', '-H', forged)).toBe(403);
  });

  test('a policy that names one caller lets that one in, given as an archive to the API', async () => {
    const { control } = shop.mesh;
    const folder = write(
      readFileSync(join(EXAMPLES, 'caller-id/policy.rego'), 'utf8').replace(
        'spiffe://corp/ns/frontend/sa/web-server',
        'spiffe://example.org/web',
      ),
    );
    copyFileSync(join(EXAMPLES, 'caller-id/.manifest'), join(folder, '.manifest'));
    const archive = join(shop.folder, 'policy.tar.gz');
    await runOk(['tar', 'czf', archive, '-C', folder, '.']);
    const admin = await OperatorClient.create(control, {
      host: shop.outsider,
      name: 'ada',
      roles: ['admin'],
    });
    const type = ['-H', 'content-type: application/gzip'];
    const published = await admin.curl('/policies?message=one', ...type, '--data-binary', `@${archive}`);
    expect(published.status).toBe(201);
    const { version } = policyActivated.parse(published.body);
    await waitUntil('it is in force', async () => (await ask(web, 'GET', '/invoices')) === 200);
    expect((await shop.query(SHOP_USERS.reports)).exitCode).not.toBe(0);
    expect((await shop.query(web)).exitCode).toBe(0);
    const shown = await control.picketOk('policy', 'show', `${version}`);
    expect(shown).toContain('input.caller.spiffe_id == "spiffe://example.org/web"');
  });
});
