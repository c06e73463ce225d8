import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { run } from '../../kit/child.ts';
import { OperatorClient } from '../../kit/operator-client.ts';
import { asUser } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { issueLeaf, signIntermediate, writeCredentials, type CredentialFiles } from './mesh-client.ts';

/**
 * Floods that reach the bounds: what has proven nothing, or carries nothing, gives way, and of what carries something nobody has all. The agents reuse no
 * connection, so that each honest request needs a place of its own.
 */

setDefaultTimeout(120_000);

const { web, reports, nobody } = SHOP_USERS;
const program = (name: string): string => readFileSync(join(import.meta.dirname, `programs/${name}`), 'utf8');
const FLOOD = program('flood.py');
const FLOOD_TLS = program('flood-tls.py');
/** Of the agents: far below the floods. A quarter of those of a host are more than the 64 that it sets up at once. */
const LIMITS = { connections: 800, connections_per_host: 400 };
/** The mark of the agent’s own connections: root on a host can set it as well. */
const AGENT_MARK = 0x5049;
const HALF_A_HELLO = '16030100fa010000f60303';
const HALF_A_HEAD = Buffer.from('GET /invoices HTTP/1.1\r\nHost: shop\r\nX-Slow: ').toString('hex');
const FLOOD_SECONDS = '5';
/** A connection that found the queue of the listener full is tried again by the kernel after one, three and seven seconds. */
const PATIENT_SECONDS = '60';
let shop: Shop;
let alice: OperatorClient;
let credentials: CredentialFiles;

beforeAll(async () => {
  const mesh = { reuse_connections: false, resume_sessions: false };
  shop = await Shop.open({ settings: { limits: LIMITS, mesh } });
  const { control } = shop.mesh;
  // From a host of the mesh the port of the server is not to be reached.
  alice = await OperatorClient.create(control, { host: control.host, name: 'alice', roles: ['admin'] });
  const intermediate = await signIntermediate(control);
  credentials = await writeCredentials(
    [await issueLeaf(intermediate, 'spiffe://example.org/web'), intermediate],
    shop.folder,
  );
}, 120_000);
afterAll(async () => await shop.close());

const python = (...args: readonly string[]): readonly string[] => ['/usr/bin/python3', '-c', ...args];

/** Runs `ask` again and again while the flood lasts; what it answered, each answer once, and what the flood printed. */
async function during(
  flood: readonly string[],
  ask: () => Promise<unknown>,
): Promise<{ readonly answers: readonly unknown[]; readonly printed: number }> {
  const over = new AbortController();
  const flooding = run(flood, { cwd: '/', withinMs: 100_000 }).finally(() => over.abort());
  const answers = new Set<unknown>();
  while (!over.signal.aborted) answers.add(await ask());
  return { answers: Array.from(answers), printed: Number((await flooding).stdout) };
}

/** The status, and of a refusal why it was. */
async function askWeb(): Promise<unknown> {
  const { status } = await shop.ask(web, '/invoices', '--max-time', PATIENT_SECONDS);
  return status === 200 ? status : `${status} ${await shop.why(web)}`;
}

async function askOperatorsPort(): Promise<unknown> {
  return (await alice.curl('/nodes', '--max-time', PATIENT_SECONDS)).status;
}

async function turnedAway(why: string): Promise<number> {
  return (await shop.store.metric(`picket_mesh_turned_away_total{why="${why}"}`)) ?? 0;
}

describe('on the mesh port', () => {
  test('3,000 handshakes that never go on, beyond all places, keep nobody out', async () => {
    const before = await turnedAway('unproven');
    const args = [shop.store.host.ipv4, '15008', '3000', HALF_A_HELLO, FLOOD_SECONDS];
    const { answers, printed } = await during(shop.outsider.in(...python(FLOOD, ...args)), askWeb);
    expect(answers).toEqual([200]);
    expect(printed).toBeGreaterThan(0);
    expect(await turnedAway('unproven')).toBeGreaterThan(before);
    expect(eventsOf(shop.store.log(), 'mesh_connections_turned_away').length).toBeGreaterThan(0);
    expect((await shop.store.examine()).faults.join('\n')).toMatch(
      /^agent flood warn: \d+ connections were turned away/m,
    );
  });

  test('handshakes that take all places of an honest host, by its own address, keep its workloads not out', async () => {
    const before = await turnedAway('unproven');
    const { desk, store } = shop;
    const args = [store.host.ipv4, '15008', '400', HALF_A_HELLO, '6', String(AGENT_MARK)];
    const flooding = run(desk.host.in(...python(FLOOD, ...args)), { withinMs: 100_000 });
    await waitUntil('the places are taken', async () => (await turnedAway('unproven')) - before >= 250);
    for (let i = 0; i < 5; i++) expect(await askWeb()).toBe(200);
    await flooding;
  });

  test('verified connections that ask for nothing, beyond all places of a host, keep nobody out', async () => {
    const { chainFile, keyFile } = credentials;
    const name = spiffeServerName(parseSpiffeId('spiffe://example.org/invoices'));
    const args = [shop.store.host.ipv4, '15008', '500', '', '2', name, chainFile, keyFile, 'picket/1'];
    const before = await turnedAway('idle');
    const { answers, printed } = await during(shop.outsider.in(...python(FLOOD_TLS, ...args)), askWeb);
    expect(answers).toEqual([200]);
    expect(printed).toBeGreaterThan(LIMITS.connections_per_host);
    expect(await turnedAway('idle')).toBeGreaterThan(before);
  });
});

describe('a user of a host', () => {
  for (const [name, uid] of Object.entries({ 'with an identity': reports, 'without one': nobody }))
    test(`${name} who opens 3,000 connections leaves others theirs`, async () => {
      const flood = asUser(
        uid,
        ...python(FLOOD, shop.store.host.ipv4, '80', '3000', HALF_A_HEAD, FLOOD_SECONDS),
      );
      const { answers } = await during(shop.desk.host.in(...flood), askWeb);
      expect(answers).toEqual([200]);
      const isServed = async (): Promise<boolean> => (await shop.query(reports)).stdout.trim() === '2';
      await waitUntil('the user himself is served again', isServed, 60_000);
    });
});

describe('on the ports of the server', () => {
  for (const port of [8443, 8444])
    test(`3,000 handshakes that never go on keep nobody out of ${port}`, async () => {
      const { control } = shop.mesh;
      const args = [control.host.ipv4, String(port), '3000', HALF_A_HELLO, FLOOD_SECONDS];
      const { answers, printed } = await during(
        shop.outsider.in(...python(FLOOD, ...args)),
        askOperatorsPort,
      );
      expect(answers).toEqual([200]);
      expect(printed).toBeGreaterThan(0);
      expect(eventsOf(control.log(), 'connections_turned_away').length).toBeGreaterThan(0);
      const listener = port === 8443 ? 'agents' : 'operators';
      const series = `picket_connections_turned_away_total{listener="${listener}",why="unproven"}`;
      expect(await control.metric(series)).toBeGreaterThan(0);
      expect((await control.examine()).faults.join('\n')).toMatch(
        /^server flood warn: \d+ connections were turned away/m,
      );
    });

  test('400 request heads that never end, on each port, keep no operator out, nor a host that joins', async () => {
    const { control } = shop.mesh;
    const joining = shop.mesh.prepareJoin(shop.outsider, 'late');
    const args = (port: number): readonly string[] =>
      python(FLOOD_TLS, control.host.ipv4, String(port), '400', HALF_A_HEAD, '2', 'localhost');
    const late = await joining;
    const other = run(shop.outsider.in(...args(8443)), { withinMs: 100_000 });
    const { answers, printed } = await during(shop.outsider.in(...args(8444)), askOperatorsPort);
    expect(answers).toEqual([200]);
    expect(printed).toBeGreaterThan(256);
    await other;
    // Once the host has joined, its own rules end the flood.
    const again = Bun.spawn(shop.outsider.in(...args(8443)), { stdout: 'ignore', stderr: 'ignore' });
    await late.start();
    again.kill();
    await again.exited;
    expect(await control.picketOk('node', 'list')).toContain('late');
  });
});
