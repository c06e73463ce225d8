import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { accessPage } from '../../shared/protocol/operator.ts';
import { run, runOk } from '../kit/child.ts';
import { asUser, curl, psql } from '../kit/programs.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** Two attested hosts and a third without Picket, real programs, the compiled binary: who may ask for what. */

setDefaultTimeout(60_000);

const { web, reports, nobody } = SHOP_USERS;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

const url = (path: string): string => `http://${shop.store.host.ipv4}${path}`;

describe('an HTTP request', () => {
  test('that the policy allows reaches nginx, with the caller’s identity attached as Envoy does', async () => {
    const { status, body } = await shop.ask(web, '/invoices');
    expect(status).toBe(200);
    expect(body).toMatch(
      /^caller=By=spiffe:\/\/example\.org\/invoices;Hash=[0-9a-f]{64};.*URI=spiffe:\/\/example\.org\/web/,
    );
  });

  test('cannot bring an identity of its own', async () => {
    const header = 'X-Forwarded-Client-Cert: URI=spiffe://example.org/admin';
    const { body } = await shop.ask(web, '/invoices', '-H', header);
    expect(body).not.toContain('admin');
    expect(body).toContain('URI=spiffe://example.org/web');
  });

  test('that the policy does not allow is answered with 403, the reason and the decision’s id, which the audit knows', async () => {
    const { status, body } = await shop.ask(web, '/refunds', '-X', 'POST');
    expect(status).toBe(403);
    const told = denialBody.parse(JSON.parse(body));
    expect(told.reason).toBe('policy_deny');
    const record = await waitUntil('the decision is on the server', async () => {
      const args = ['audit', 'access', '--decision-id', told.decision_id];
      return (await shop.mesh.control.picketJson(accessPage, ...args)).items[0];
    });
    expect(record).toMatchObject({
      caller_spiffe_id: 'spiffe://example.org/web',
      target_spiffe_id: 'spiffe://example.org/invoices',
      method: 'POST',
      path: '/refunds',
      decision: 'deny',
      direction: 'inbound',
      policy_version: 1,
    });
  });

  test('is decided one by one on a connection that is kept', async () => {
    const first = ['-sS', '-o', '/dev/null', url('/invoices')];
    const second = [
      '-sS',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code} %{num_connects}',
      '-X',
      'POST',
      url('/refunds'),
    ];
    const curlTwice = asUser(web, 'curl', ...first, '--next', ...second);
    expect(await runOk(shop.desk.host.in(...curlTwice))).toBe('403 0');
  });

  test('is decided over IPv6 as well', async () => {
    const ask = async (path: string, ...args: string[]): Promise<number> => {
      const target = `http://[${shop.store.host.ipv6}]${path}`;
      return (await curl(shop.desk.host, { uid: web, args: [target, ...args] })).status;
    };
    expect(await ask('/invoices')).toBe(200);
    expect(await ask('/refunds', '-X', 'POST')).toBe(403);
  });

  test('may carry large bodies both ways, unchanged', async () => {
    const file = `${shop.folder}/body`;
    await runOk(['dd', 'if=/dev/urandom', `of=${file}`, 'bs=1M', 'count=24', 'status=none']);
    await runOk(['chmod', '755', shop.folder]);
    expect((await shop.ask(web, '/upload/body', '-T', file)).status).toBe(201);
    const download = asUser(web, 'bash', '-c', `curl -sS ${url('/upload/body')} | sha256sum`);
    expect(await runOk(shop.desk.host.in(...download))).toBe(
      await runOk(['bash', '-c', `sha256sum < ${file}`]),
    );
  });

  test('of a user without an identity is refused, and only that user is told why', async () => {
    const { status, exitCode } = await shop.ask(nobody, '/invoices');
    expect(exitCode === 0 ? status : 403).toBe(403);
    expect(await shop.why(nobody)).toContain('caller_unidentified');
    expect(await shop.why(7999)).not.toContain('caller_unidentified');
  });

  test('of a host without Picket is refused, at the application’s port and at the mesh’s', async () => {
    const before = await shop.countNginxRequests();
    for (const host of [shop.store.host.ipv4, `[${shop.store.host.ipv6}]`]) {
      const plain = await curl(shop.outsider, { uid: 0, args: [`http://${host}/invoices`] });
      expect(plain.status).toBe(403);
      expect(denialBody.parse(JSON.parse(plain.body)).reason).toBe('policy_deny');
    }
    expect(await shop.countNginxRequests()).toBe(before);
    const mesh = await curl(shop.outsider, {
      uid: 0,
      args: ['-k', `https://${shop.store.host.ipv4}:15008/invoices`],
    });
    expect(mesh.status).toBe(0);
  });

  test.each([
    ['two ways to tell its length', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd'],
    ['an odd length', 'Content-Length: +4\r\n\r\nabcd'],
    ['a folded header', 'X-Folded: a\r\n b\r\n\r\n'],
    ['bare line feeds', 'X-Plain: a\n\n'],
    ['a blank before the colon', 'Content-Length : 4\r\n\r\nabcd'],
    ['a head beyond the bound', `X-Long: ${'a'.repeat(100_000)}\r\n\r\n`],
  ])('with %s is refused, and nginx never sees it', async (_name, rest) => {
    const before = await shop.countNginxRequests();
    const answer = await shop.sendRaw(web, `POST /invoices HTTP/1.1\r\nHost: a\r\n${rest}`);
    expect(answer).toMatch(/^HTTP\/1\.1 4(00|31) /);
    expect(await shop.countNginxRequests()).toBe(before);
  });
});

describe('a connection', () => {
  test('of the registered user reaches PostgreSQL, which speaks when it is spoken to', async () => {
    const { stdout, exitCode } = await shop.query(reports);
    expect([exitCode, stdout.trim()]).toEqual([0, '2']);
  });

  test('over IPv6 reaches PostgreSQL as well, of the registered user alone', async () => {
    const query = { server: shop.store.host.ipv6, sql: 'select 1 + 1' };
    expect((await psql(shop.desk.host, { ...query, uid: reports })).stdout.trim()).toBe('2');
    expect((await psql(shop.desk.host, { ...query, uid: web })).exitCode).not.toBe(0);
    expect((await psql(shop.outsider, { ...query, uid: reports })).exitCode).not.toBe(0);
  });

  test('of another workload on the same host is refused, and picket why tells it', async () => {
    expect((await shop.query(web)).exitCode).not.toBe(0);
    expect(await shop.why(web)).toContain('policy_deny');
  });

  test('of a user without an identity is refused', async () => {
    expect((await shop.query(nobody)).exitCode).not.toBe(0);
    expect(await shop.why(nobody)).toContain('caller_unidentified');
  });

  test('of a host without Picket is refused', async () => {
    const server = shop.store.host.ipv4;
    expect((await psql(shop.outsider, { uid: reports, server, sql: 'select 1' })).exitCode).not.toBe(0);
  });

  test('to a port of a meshed host at which nothing is registered is never made in plaintext', async () => {
    const netcat = asUser(web, 'nc', '-w', '3', shop.store.host.ipv4, '9999');
    // The agent takes the connection before it knows where to; whether netcat sees that or the reset alone is a race.
    await run(shop.desk.host.in(...netcat));
    await waitUntil('the denial is noted', async () => (await shop.why(web)).includes('target_unknown'));
  });

  test('to a host outside of the mesh is not let out', async () => {
    const { exitCode } = await curl(shop.desk.host, { uid: web, args: [`http://${shop.outsider.ipv4}/`] });
    expect(exitCode).not.toBe(0);
    await waitUntil('the denial is noted', async () => (await shop.why(web)).includes('egress_deny'));
  });
});
