import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { z } from 'zod';
import { statusAnswer } from '../../agent/admin/admin-answers.ts';
import { workloadCertificates } from '../../shared/protocol/operator.ts';
import { entry } from '../../shared/protocol/registration.ts';
import { run, runOk } from '../kit/child.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { OperatorClient, refusalBody } from '../kit/operator-client.ts';
import { Shop } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** Entries by the command line and by the API, and which process they make a workload of. */

setDefaultTimeout(60_000);

const CURL = realpathSync('/usr/bin/curl');
const CURL_SHA256 = createHash('sha256').update(readFileSync(CURL)).digest('hex');
const entryList = z.object({ items: z.array(entry) });
let shop: Shop;
let admin: OperatorClient;

beforeAll(async () => {
  shop = await Shop.open();
  admin = await OperatorClient.create(shop.mesh.control, {
    host: shop.outsider,
    name: 'alice',
    roles: ['admin'],
  });
}, 120_000);
afterAll(async () => await shop.close());

/** Who a program is run as. */
interface Account {
  readonly uid: number;
  readonly gid?: number;
  readonly groups?: number;
}

/** Whether a request that curl makes as somebody has an identity: one that no rule allows is answered, one of nobody is reset. */
async function isIdentified(account: Account, program = CURL): Promise<boolean> {
  const { uid, gid = uid, groups } = account;
  const more = groups === undefined ? '--clear-groups' : `--groups=${groups}`;
  const request = [program, '-s', '-m', '5', '-o', '/dev/null', '-w', '%{http_code}'];
  const url = `http://${shop.store.host.ipv4}/invoices`;
  const command = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, more, '--', ...request, url];
  const { stdout } = await run(shop.desk.host.in(...command), { cwd: '/' });
  expect(stdout).toBeOneOf(['403', '000']);
  return stdout === '403';
}

async function identitiesOn(host: MeshHost): Promise<readonly string[]> {
  const { identities } = statusAnswer.parse(JSON.parse(await host.picketOk('agent', 'status', '--json')));
  return identities.map(({ spiffeId }) => spiffeId);
}

describe('a registration entry', () => {
  test('is created, shown, changed, listed and deleted by the command line, and its host follows each step', async () => {
    const { control } = shop.mesh;
    const id = await shop.mesh.register({ path: '/first', on: shop.desk, selectors: ['unix:uid:7101'] });
    await waitUntil('its user is known', async () => await isIdentified({ uid: 7101 }));
    const created = await control.picketJson(entry, 'entry', 'show', id);
    expect(created).toMatchObject({ entryId: id, selectors: ['unix:uid:7101'], revision: 0 });
    const changes = ['--selector', 'unix:uid:7102', '--ttl', '2h', '--dns', 'first.example.org'];
    const updated = await control.picketJson(entry, 'entry', 'update', id, ...changes);
    expect(updated).toMatchObject({
      ...created,
      selectors: ['unix:uid:7102'],
      ttlSeconds: 7200,
      dnsNames: ['first.example.org'],
      revision: 1,
    });
    await waitUntil('the other user is known', async () => await isIdentified({ uid: 7102 }));
    expect(await isIdentified({ uid: 7101 })).toBe(false);
    const listed = await control.picketJson(entryList, 'entry', 'list', '--spiffe-id', created.spiffeId);
    expect(listed.items).toEqual([updated]);
    expect(await control.picketOk('entry', 'show', id)).toContain('first.example.org');
    await control.picketOk('entry', 'delete', id);
    await waitUntil('nobody is known', async () => !(await isIdentified({ uid: 7102 })));
    expect((await control.picket('entry', 'show', id)).exitCode).toBe(4);
    expect((await control.picket('entry', 'delete', id)).exitCode).toBe(4);
  });

  test('is created, read, changed, listed and deleted by the API, by whoever saw its newest revision', async () => {
    const wish = {
      spiffeId: 'spiffe://example.org/second',
      parentId: 'spiffe://example.org/picket/agent/join_token/desk',
      selectors: ['unix:uid:7103'],
    };
    const made = await admin.post('/entries', wish);
    expect(made.status).toBe(201);
    const { entryId, revision } = entry.parse(made.body);
    const path = `/entries/${entryId}`;
    expect(await admin.curl(path)).toEqual({ status: 200, body: made.body });
    const put = async (body: object) =>
      await admin.curl(path, '-X', 'PUT', '-H', 'content-type: application/json', '-d', JSON.stringify(body));
    const change = { ...wish, hint: 'the second', revision };
    expect(await put(change)).toMatchObject({ status: 200, body: { hint: 'the second' } });
    const stale = await put(change);
    expect([stale.status, refusalBody.parse(stale.body).code]).toEqual([412, 'failed_precondition']);
    const listed = entryList.parse((await admin.curl('/entries?limit=1000')).body);
    expect(listed.items.map((each) => each.entryId)).toContain(entryId);
    const bad = await admin.post('/entries', { ...wish, selectors: [] });
    expect([bad.status, refusalBody.parse(bad.body).code]).toEqual([400, 'invalid_argument']);
    expect((await admin.curl(path, '-X', 'DELETE')).status).toBe(204);
    expect((await admin.curl(path)).status).toBe(404);
  });

  test('reaches the host of its parent and no other', async () => {
    await shop.mesh.register({ path: '/here', on: shop.desk, selectors: ['unix:uid:7104'] });
    await shop.mesh.register({ path: '/there', on: shop.store, selectors: ['unix:uid:7104'] });
    const [desk, store] = ['spiffe://example.org/here', 'spiffe://example.org/there'];
    await waitUntil(
      'both hosts have theirs',
      async () =>
        (await identitiesOn(shop.desk)).includes(desk) && (await identitiesOn(shop.store)).includes(store),
    );
    expect(await identitiesOn(shop.desk)).not.toContain(store);
    expect(await identitiesOn(shop.store)).not.toContain(desk);
  });

  test('of one identity on two hosts gives each a certificate of its own, and the API tells both', async () => {
    const spiffeId = 'spiffe://example.org/everywhere';
    for (const on of [shop.desk, shop.store])
      await shop.mesh.register({ path: '/everywhere', on, selectors: ['unix:uid:7105'] });
    const certificates = await waitUntil('both are issued', async () => {
      const { body } = await admin.curl(`/workloads/${encodeURIComponent(spiffeId)}/certificate`);
      const known = workloadCertificates.parse(body).certificates;
      return known.length === 2 && known;
    });
    expect(new Set(certificates.map(({ nodeId }) => nodeId.split('/').at(-1)))).toEqual(
      new Set(['desk', 'store']),
    );
    expect(new Set(certificates.map(({ serial }) => serial)).size).toBe(2);
  });
});

describe('a process is the workload', () => {
  const kinds: readonly (readonly [
    kind: string,
    selectors: readonly string[],
    is: Account,
    isNot: Account,
  ])[] = [
    ['uid', ['unix:uid:7200'], { uid: 7200 }, { uid: 7299 }],
    ['user', ['unix:user:www-data'], { uid: 33, gid: 7299 }, { uid: 7299 }],
    ['gid', ['unix:gid:7201'], { uid: 7299, gid: 7201 }, { uid: 7299, groups: 7201 }],
    ['group', ['unix:group:www-data'], { uid: 7299, gid: 33 }, { uid: 7299 }],
    [
      'supplementary gid',
      ['unix:supplementary_gid:7202'],
      { uid: 7299, groups: 7202 },
      { uid: 7299, gid: 7202 },
    ],
    ['supplementary group', ['unix:supplementary_group:games'], { uid: 7299, groups: 60 }, { uid: 7299 }],
    ['path', ['unix:uid:7203', `unix:path:${CURL}`], { uid: 7203 }, { uid: 7299 }],
    ['digest', ['unix:uid:7204', `unix:sha256:${CURL_SHA256}`], { uid: 7204 }, { uid: 7299 }],
  ];

  test.each(kinds)('by its %s, and not by anything else', async (kind, selectors, is, isNot) => {
    await shop.mesh.register({ path: `/by/${kind.replace(' ', '-')}`, on: shop.desk, selectors });
    await waitUntil('it is known', async () => await isIdentified(is));
    expect(await isIdentified(isNot)).toBe(false);
  });

  test('by the path and the digest of the program that it runs, not of another', async () => {
    const other = `${shop.folder}/curl`;
    await runOk(['bash', '-c', `cp ${CURL} ${other} && printf x >>${other} && chmod 755 ${other}`]);
    for (const uid of [7203, 7204]) {
      expect(await isIdentified({ uid })).toBe(true);
      expect(await isIdentified({ uid }, other)).toBe(false);
    }
  });
});
