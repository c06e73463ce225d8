import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import type { SyncSnapshot } from '../../../agent/server-link/sync-state.ts';
import { runOk } from '../../kit/child.ts';
import { OperatorClient, type ApiAnswer, type ClientFiles } from '../../kit/operator-client.ts';
import { asUser } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import type { TestCertificate } from '../../kit/test-authority.ts';
import { waitUntil } from '../../kit/wait.ts';
import { AgentPort } from './agent-port.ts';
import { ForgedServer } from './forged-server.ts';
import { issueLeaf, signIntermediate, writeCredentials } from './mesh-client.ts';
import { stealState } from './stolen-state.ts';

/** Somebody who would have all that the policy denies pass, by putting it in audit mode. */

setDefaultTimeout(120_000);

const { web, nobody } = SHOP_USERS;
const EVERYTHING = 'spiffe://example.org/*';
const PATH = `/enforcement/${encodeURIComponent(EVERYTHING)}`;
let shop: Shop;
let intermediate: TestCertificate;

beforeAll(async () => {
  shop = await Shop.open();
  intermediate = await signIntermediate(shop.mesh.control);
}, 120_000);
afterAll(async () => await shop.close());

const refund = async (): Promise<number> => (await shop.ask(web, '/refunds', '-X', 'POST')).status;

async function setMode(client: OperatorClient, mode: string): Promise<ApiAnswer> {
  const json = ['-H', 'content-type: application/json', '-d', JSON.stringify({ mode })];
  return await client.curl(PATH, '-X', 'PUT', ...json);
}

/** Where the port of the server can be reached: not from a host of the mesh. */
const clientWith = (files?: ClientFiles): OperatorClient =>
  new OperatorClient(shop.mesh.control, shop.mesh.control.host, files);

async function operatorWith(role: string): Promise<OperatorClient> {
  const { control } = shop.mesh;
  return await OperatorClient.create(control, { host: control.host, name: role, roles: [role] });
}

describe('the mode of a service', () => {
  test('is not set by a workload, by an agent, or by nobody', async () => {
    const bundle = shop.mesh.control.bundleFile;
    const leaf = await issueLeaf(intermediate, 'spiffe://example.org/web');
    const workload = await writeCredentials([leaf, intermediate], shop.folder);
    const agent = await new AgentPort(shop.mesh.control, shop.outsider).join('elsewhere');
    for (const client of [
      clientWith(),
      clientWith({ cert: workload.chainFile, key: workload.keyFile, bundle }),
      clientWith({ cert: agent.certFile, key: agent.keyFile, bundle }),
    ])
      expect((await setMode(client, 'audit')).status).toBe(401);
    expect(await refund()).toBe(403);
  });

  test('is not set by operators who do not write policies, nor cleared', async () => {
    for (const role of ['registrar', 'auditor']) {
      const client = await operatorWith(role);
      expect((await setMode(client, 'audit')).status).toBe(403);
      expect((await client.curl(PATH, '-X', 'DELETE')).status).toBe(403);
      expect((await client.curl('/enforcement')).status).toBe(200);
    }
    expect(await refund()).toBe(403);
  });

  test('is set by those who do: what was refused above was refused for who asked', async () => {
    const author = await operatorWith('policy-author');
    expect((await setMode(author, 'off')).status).toBe(400);
    expect((await setMode(author, 'audit')).status).toBe(200);
    await waitUntil('it is in force', async () => (await refund()) === 201);
    expect((await author.curl(PATH, '-X', 'DELETE')).status).toBe(204);
    await waitUntil('no more', async () => (await refund()) === 403);
  });

  test('is not to be set at an agent: its socket only tells', async () => {
    const socket = join(shop.store.folder, 'admin.sock');
    const body = ['-X', 'PUT', '-d', '{"mode":"audit"}', '-w', '%{http_code}', '-o', '/dev/null'];
    const put = ['curl', '-s', '--unix-socket', socket, ...body, `http://agent${PATH}`];
    for (const command of [put, asUser(nobody, ...put)])
      expect(await runOk(shop.store.host.in(...command), { cwd: '/' })).toBe('404');
    expect(await refund()).toBe(403);
  });
});

describe('once the server is gone, whoever answers at its address', () => {
  let snapshot: SyncSnapshot;
  let startedAt = 0;
  let server: ForgedServer | undefined;

  beforeAll(async () => {
    ({ snapshot } = await stealState(shop.store));
    await shop.mesh.control.stop();
  });
  afterAll(async () => await server?.stop());

  const logSinceStart = (): string => shop.store.log().split('\n').slice(startedAt).join('\n');

  /** Answers at the server's address as `spiffeId`, and says that everything is in audit mode. */
  async function answerAs(spiffeId: string): Promise<void> {
    await server?.stop();
    await shop.store.stop();
    startedAt = shop.store.log().split('\n').length - 1;
    const victim = '/join_token/store';
    server = await ForgedServer.start(shop.mesh.control, { intermediate, victim, spiffeId });
    await server.say({
      ...snapshot,
      items: [
        ...snapshot.items,
        { kind: 'enforcement', key: EVERYTHING, value: { scope: EVERYTHING, mode: 'audit' } },
      ],
    });
    shop.store.launch();
  }

  for (const spiffeId of ['spiffe://example.org/picket/agent/join_token/desk', 'spiffe://example.org/web'])
    test(`as ${spiffeId} is not heard`, async () => {
      await answerAs(spiffeId);
      await waitUntil('it was refused', () => logSinceStart().includes('server_identity_mismatch'));
      await waitUntil('requests are decided', async () => (await shop.ask(web, '/invoices')).status === 200);
      expect(await refund()).toBe(403);
      expect(logSinceStart()).not.toContain('"event":"sync_live"');
    });

  test('as the server itself is: with the online key one can say what a server says, so that the others were refused for who they are', async () => {
    await answerAs('spiffe://example.org/picket/server');
    await waitUntil('it is heard', () => logSinceStart().includes('"event":"sync_live"'));
    await waitUntil('it is in force', async () => (await refund()) === 201);
  });
});
