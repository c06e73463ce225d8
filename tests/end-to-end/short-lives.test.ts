import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import type { z } from 'zod';
import { type node, nodePage, workloadCertificates } from '../../shared/protocol/operator.ts';
import { decisionsBelow } from '../kit/access-records.ts';
import { Shop } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';

/** Certificates with the shortest life there is, under load. */

setDefaultTimeout(120_000);

const SHORT_USER = 7021;
const SHORT_ID = 'spiffe://example.org/short';
const INVOICES = 'spiffe://example.org/invoices';
const RENEWALS = 3;
/** The shortest that there is for an agent. */
const AGENT_LIFE_SECONDS = 60;
let shop: Shop;
let atFirst: z.output<typeof node>;

beforeAll(async () => {
  shop = await Shop.open({ serverSettings: { svid: { agent_ttl_seconds: AGENT_LIFE_SECONDS } } });
  atFirst = await readDesk();
  await shop.mesh.register({
    path: '/short',
    on: shop.desk,
    selectors: [`unix:uid:${SHORT_USER}`],
    ttl: '20s',
  });
}, 120_000);
afterAll(async () => await shop.close());

/** What the server knows of the host `desk`: its certificate, and when it proved itself. */
async function readDesk(): Promise<z.output<typeof node>> {
  const { items } = await shop.mesh.control.picketJson(nodePage, 'node', 'list');
  return items.find(({ nodeId }) => nodeId.endsWith('/desk'))!;
}

async function serial(): Promise<string | undefined> {
  const { certificates } = await shop.mesh.control.picketJson(
    workloadCertificates,
    'workload',
    'certificate',
    SHORT_ID,
  );
  return certificates[0]?.serial;
}

test('a workload whose certificate lives for 20 seconds loses no request through its renewals, and each is recorded', async () => {
  const ask = async (): Promise<number> => (await shop.ask(SHORT_USER, '/invoices')).status;
  await waitUntil('it has its identity', async () => (await ask()) !== 0);
  const serials = new Set<string>();
  const answers = new Map<number, number>();
  let asked = 0;
  const isWatched = new AbortController();
  const load = async (): Promise<void> => {
    while (!isWatched.signal.aborted) {
      asked += 1;
      const status = await ask();
      answers.set(status, (answers.get(status) ?? 0) + 1);
    }
  };
  const watch = async (): Promise<void> => {
    await waitUntil(
      'it was renewed often enough',
      async () => {
        const current = await serial();
        if (current !== undefined) serials.add(current);
        return serials.size > RENEWALS;
      },
      90_000,
    );
  };
  await Promise.all([load(), watch().finally(() => isWatched.abort())]);
  // The policy does not know /short: each request reaches the other side under its identity, and is denied there.
  expect([...answers]).toEqual([[403, asked]]);
  await waitUntil(
    'all of it is recorded',
    async () => {
      const recorded = await decisionsBelow(shop.mesh.control, INVOICES, '/invoices');
      return recorded.filter(({ caller_spiffe_id: id }) => id === SHORT_ID).length >= asked;
    },
    30_000,
  );
});

test('an agent outlives its certificate by renewing it, and never has to prove itself anew', async () => {
  const endMs = Date.parse(atFirst.expiry);
  await waitUntil('the first one has ended', () => Date.now() > endMs, AGENT_LIFE_SECONDS * 1000);
  const now = await readDesk();
  expect(now.certSerial).not.toBe(atFirst.certSerial);
  expect(now.attestedAt).toBe(atFirst.attestedAt);
  await shop.mesh.register({ path: '/late', on: shop.desk, selectors: ['unix:uid:7022'] });
  await waitUntil('it is told of changes', async () => (await shop.ask(7022, '/invoices')).status === 403);
});
