import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { IdentityStore } from '../../agent/identity/identity-store.ts';
import { openSealedDisk } from '../../agent/key-store/sealed-disk.ts';
import {
  type operatorAction,
  operatorActionPage,
  policyAnswer,
  workloadCertificates,
} from '../../shared/protocol/operator.ts';
import { problem } from '../../shared/protocol/problem.ts';
import { run, runOk } from '../kit/child.ts';
import { OperatorClient, refusalBody } from '../kit/operator-client.ts';
import { asUser } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';
import { WorkloadClient } from '../kit/workload-client.ts';

/** What the operators' API promises for the whole of its routes, and to those who are nearly operators. */

setDefaultTimeout(60_000);

const WEB = 'spiffe://example.org/web';
const { web, nobody } = SHOP_USERS;
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

/** What the API tells on the local socket to a process of `uid`. */
async function askLocally(uid: number, ...args: readonly string[]): Promise<unknown> {
  const curl = ['curl', '-sS', '-m', '5', '--unix-socket', shop.mesh.control.socket, ...args];
  return JSON.parse(await runOk(asUser(uid, ...curl), { cwd: '/' }));
}

async function actionsOf(actor: string): Promise<readonly z.output<typeof operatorAction>[]> {
  const { items } = operatorActionPage.parse((await admin.curl('/audit/operators')).body);
  return items.filter((item) => item.actor === actor);
}

const entryOf = (name: string, change: object = {}): object => ({
  spiffeId: `spiffe://example.org/${name}`,
  parentId: 'spiffe://example.org/picket/agent/join_token/desk',
  selectors: ['unix:uid:7100'],
  ...change,
});

describe('a process in the group of the local socket', () => {
  test('is told that the admin policy allows it nothing, and what it tried to change is recorded', async () => {
    chownSync(shop.mesh.control.socket, 0, nobody);
    const body = JSON.stringify(entryOf('by-nobody'));
    const json = ['-H', 'content-type: application/json', '-d', body];
    const refusal = { code: 'permission_denied', reason: 'admin_policy' };
    expect(await askLocally(nobody, 'http://picket/entries')).toMatchObject(refusal);
    expect(await askLocally(nobody, ...json, 'http://picket/entries')).toMatchObject(refusal);
    expect(await actionsOf(`local:uid:${nobody}`)).toMatchObject([
      { action: 'entry.create', subject: 'spiffe://example.org/by-nobody', decision: 'deny' },
    ]);
    expect(await admin.picketOk('entry', 'list')).not.toContain('by-nobody');
  });
});

describe('port 8444 turns away', () => {
  test('an agent with the certificate of its host', async () => {
    const store = await openSealedDisk({ directory: join(shop.desk.folder, 'data') });
    const held = await new IdentityStore(store).readAgentSvid();
    if (held === undefined) throw new Error('The agent holds no certificate');
    const files = { cert: join(shop.folder, 'agent.crt'), key: join(shop.folder, 'agent.key') };
    writeFileSync(files.cert, held.chainPem);
    writeFileSync(files.key, held.privateKeyPem);
    const bundle = shop.mesh.control.bundleFile;
    const agent = new OperatorClient(shop.mesh.control, shop.outsider, { ...files, bundle });
    const { status, body } = await agent.curl('/nodes');
    expect([status, refusalBody.parse(body).reason]).toEqual([401, 'identity_not_accepted']);
    const told = await agent.picket('node', 'list');
    expect(told.exitCode).not.toBe(0);
    expect(told.stderr).toContain('is not an operator of this trust domain');
  });
});

describe('the certificate of port 8444', () => {
  test('stands curl’s check of a name and of an address, and of no other', async () => {
    const { host, bundleFile } = shop.mesh.control;
    const ask = async (authority: string) =>
      await run(host.in('curl', '-sS', '-m', '5', '--cacert', bundleFile, `https://${authority}:8444/docs`));
    for (const authority of ['localhost', '127.0.0.1'])
      expect([authority, (await ask(authority)).exitCode]).toEqual([authority, 0]);
    const other = await ask(host.ipv4);
    expect(other.exitCode).toBe(60);
    expect(other.stderr).toContain('no alternative certificate subject name matches');
  });
});

describe('the API', () => {
  test('names no rule on a denial when none fired, and the rule that allowed', async () => {
    const evaluate = async (method: string) => {
      const question = { caller: WEB, target: 'spiffe://example.org/invoices', method, path: '/invoices' };
      return policyAnswer.parse((await admin.post('/policies/evaluate', question)).body);
    };
    expect(await evaluate('DELETE')).toMatchObject({ decision: 'deny', rules: [], version: 1 });
    expect((await evaluate('GET')).rules).toEqual([
      { rule: 'data.picket.authz.allow', file: 'policy.rego', line: 5 },
    ]);
  });

  test('lists the certificates of an identity on each host where it lives', async () => {
    await shop.mesh.register({ path: '/web', on: shop.store, selectors: [`unix:uid:${web}`] });
    const workloads = await WorkloadClient.build(shop.folder);
    await waitUntil('the other host has the identity', async () => {
      const command = workloads.command(shop.store, web, 'FetchX509SVID', 1);
      return (await run(command, { cwd: '/', withinMs: 5000 })).exitCode === 0;
    });
    const { body } = await admin.curl(`/workloads/${encodeURIComponent(WEB)}/certificate`);
    const { certificates } = workloadCertificates.parse(body);
    expect(certificates.map((each) => each.nodeId as string).toSorted()).toEqual([
      'spiffe://example.org/picket/agent/join_token/desk',
      'spiffe://example.org/picket/agent/join_token/store',
    ]);
    expect(new Set(certificates.map((each) => each.serial)).size).toBe(2);
  });

  test('refuses an entry that federates: nothing fetches foreign bundles yet', async () => {
    const { status, body } = await admin.post(
      '/entries',
      entryOf('far', { federatesWith: ['partner.example'] }),
    );
    expect([status, refusalBody.parse(body).reason]).toEqual([501, 'federation_not_built']);
    const parent = 'spiffe://example.org/picket/agent/join_token/desk';
    const told = await admin.picket(
      'entry',
      'create',
      'spiffe://example.org/far',
      '--parent',
      parent,
      '--selector',
      'unix:uid:7100',
      '--federates-with',
      'partner.example',
    );
    expect(told.exitCode).not.toBe(0);
    expect(told.stderr).toContain('federation is not built yet');
    expect(await admin.picketOk('entry', 'list')).not.toContain('spiffe://example.org/far');
  });

  test('has every route of its document, and refuses each to who shows no certificate', async () => {
    const anybody = new OperatorClient(shop.mesh.control, shop.outsider);
    const document = z.object({ paths: z.record(z.string(), z.record(z.string(), z.unknown())) });
    const { paths } = document.parse((await anybody.curl('/openapi.json')).body);
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path })),
    );
    expect(routes.length).toBeGreaterThan(25);
    for (const { method, path } of routes) {
      const { status, body } = await anybody.curl(path.replaceAll(/\{\w+\}/g, 'x'), '-X', method);
      const { reason } = problem.parse(body);
      expect([method, path, status, reason]).toEqual([method, path, 401, 'certificate_missing']);
    }
    expect((await anybody.curl('/nothing')).status).toBe(404);
  });
});
