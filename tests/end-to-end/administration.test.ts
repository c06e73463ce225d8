import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  accessPage,
  createdToken,
  node,
  nodePage,
  operatorActionPage,
  operatorPage,
  policyPage,
  serverHealth,
  tokenPage,
  tpmHostPage,
  workloadCertificates,
} from '../../shared/protocol/operator.ts';
import { entry } from '../../shared/protocol/registration.ts';
import type { MeshHost } from '../kit/mesh-host.ts';
import { OperatorClient } from '../kit/operator-client.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** The command line on a mesh that runs: what it shows, for people and for programs, and what its verbs do to hosts. */

setDefaultTimeout(60_000);

const { web } = SHOP_USERS;
const DESK = 'spiffe://example.org/picket/agent/join_token/desk';
let shop: Shop;
let admin: OperatorClient;

beforeAll(async () => {
  shop = await Shop.open();
  const { control } = shop.mesh;
  admin = await OperatorClient.create(control, { host: shop.outsider, name: 'alice', roles: ['admin'] });
  await waitUntil('what was decided is at the server', async () =>
    (await control.picketOk('audit', 'access', '--limit', '5')).includes('spiffe://example.org/'),
  );
}, 120_000);
afterAll(async () => await shop.close());

const status = async (path = '/invoices'): Promise<number> => (await shop.ask(web, path)).status;

describe('what the command line shows', () => {
  const shown: readonly (readonly [command: string, answer: z.ZodType, forPeople: string])[] = [
    ['server status', serverHealth, 'pglite'],
    ['node list', nodePage, DESK],
    [`node show ${DESK}`, node, '10.9.0.3'],
    ['node tpm list', tpmHostPage, 'No TPM was seen or approved yet.'],
    ['token list', tokenPage, 'desk'],
    ['entry list', z.object({ items: z.array(entry) }), 'unix:user:www-data'],
    ['policy list', policyPage, 'in force'],
    ['workload certificate spiffe://example.org/web', workloadCertificates, DESK],
    ['audit access --limit 5', accessPage, 'spiffe://example.org/'],
    ['audit operators --limit 5', operatorActionPage, 'operator.create'],
    ['operator list', operatorPage, 'alice'],
  ];

  test.each(shown)(
    'picket %s: a table for people, JSON for programs, from here and from elsewhere',
    async (command, answer, forPeople) => {
      const args = command.split(' ');
      for (const side of [shop.mesh.control, admin]) {
        expect(await side.picketOk(...args)).toContain(forPeople);
        expect(answer.safeParse(JSON.parse(await side.picketOk(...args, '--json'))).error).toBeUndefined();
      }
    },
  );

  test('goes on from page to page', async () => {
    const { control } = shop.mesh;
    const read = async (...args: string[]) =>
      await control.picketJson(operatorActionPage, 'audit', 'operators', ...args);
    const first = await read('--limit', '2');
    const second = await read('--limit', '2', '--cursor', first.next ?? '');
    const both = await read('--limit', '4');
    expect([...first.items, ...second.items]).toEqual(both.items);
    expect((await control.picket('audit', 'operators', '--limit', '2')).stderr).toContain(
      `More: --cursor ${first.next}`,
    );
  });

  test('is the whole of a certificate as PEM, where that is asked for', async () => {
    const pem = await shop.mesh.control.picketOk(
      'workload',
      'certificate',
      'spiffe://example.org/web',
      '--pem',
    );
    expect(pem.match(/-----BEGIN CERTIFICATE-----/g)).toHaveLength(2);
  });

  test('is an example of the server’s settings that check-config takes, and what is wrong with a bad one', async () => {
    const { control } = shop.mesh;
    const file = join(shop.folder, 'server.yaml');
    writeFileSync(file, await control.picketOk('server', 'config-example'));
    expect(await control.picketOk('server', 'check-config', '--config', file)).toContain('is valid');
    writeFileSync(file, 'trust_domain: example.org\nca: { directory: relative }\nnonsense: 1\n');
    const bad = await control.picket('server', 'check-config', '--config', file);
    expect(bad.exitCode).toBe(2);
    for (const word of ['ca.directory', 'nonsense']) expect(bad.stderr).toContain(word);
  });
});

describe('picket node address', () => {
  test('remove takes a host’s services off the directory, and nothing goes there in plaintext; add brings them back', async () => {
    const { control } = shop.mesh;
    const [store, address] = [DESK.replace('desk', 'store'), shop.store.host.ipv4];
    await control.picketOk('node', 'address', 'remove', store, address);
    // The host that calls may hear of it last: until then the other one refuses.
    await waitUntil('it is not found any more', async () => {
      return (await status()) === 0 && /egress_deny|target_unknown/.test(await shop.why(web));
    });
    const before = await shop.countNginxRequests();
    expect(await status()).toBe(0);
    await control.picketOk('node', 'address', 'add', store, address);
    await waitUntil('it is found again', async () => (await status()) === 200);
    expect(await shop.countNginxRequests()).toBe(before + 1);
    const refused = await control.picket('node', 'address', 'add', DESK, address);
    expect([refused.exitCode, refused.stderr]).toEqual([
      5,
      expect.stringContaining('confirmed for') as string,
    ]);
  });
});

describe('picket token', () => {
  test('delete ends a token that was not used', async () => {
    const { control } = shop.mesh;
    const made = await control.picketJson(createdToken, 'token', 'create', 'never');
    const find = async () =>
      (await control.picketJson(tokenPage, 'token', 'list')).items.find(({ name }) => name === 'never');
    const known = await find();
    expect(known).toMatchObject({ usedAt: null });
    await control.picketOk('token', 'delete', known?.tokenHash ?? '');
    expect(await find()).toBeUndefined();
    const agent = shop.mesh.prepareHost(shop.outsider, {
      name: 'never',
      attestation: { type: 'join_token', token: made.token },
      settings: { capture: { enabled: false } },
    });
    const child = agent.launch();
    await waitUntil('it is refused', () => agent.log().includes('join_token') || !child.isRunning);
    expect(await control.picketOk('node', 'list')).not.toContain('/never');
    await agent.stop();
  });
});

describe('picket node evict', () => {
  const join = async (): Promise<MeshHost> =>
    await shop.mesh.joinHost(shop.outsider, 'extra', { capture: { enabled: false } });

  test('forgets a host, which then can attest anew when it was installed again', async () => {
    const { control } = shop.mesh;
    const nodeId = DESK.replace('desk', 'extra');
    const first = await join();
    const { attestedAt } = await control.picketJson(node, 'node', 'show', nodeId);
    await control.picketOk('node', 'evict', nodeId);
    expect((await control.picket('node', 'show', nodeId)).exitCode).toBe(4);
    await waitUntil('the host notices', () => first.log().includes('node_unknown'), 30_000);
    await first.stop();
    rmSync(`${first.folder}/data`, { recursive: true });
    const second = await join();
    const again = await control.picketJson(node, 'node', 'show', nodeId);
    expect(Date.parse(again.attestedAt)).toBeGreaterThan(Date.parse(attestedAt));
    await second.stop();
  });
});
