import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { cpSync, appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { statusAnswer } from '../../../agent/admin/admin-answers.ts';
import { entryPage, nodePage, policyPage } from '../../../shared/protocol/operator.ts';
import type { RunResult } from '../../kit/child.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { DatabaseGate } from './database-gate.ts';
import type { Moment } from './programs/database-gate.ts';
import { SteadyLoad } from './steady-load.ts';

/** The server dies at every step of its work while the mesh is under load: each time it is killed, started again, and what it was at is done in the end. */

setDefaultTimeout(300_000);

const { web, reports } = SHOP_USERS;
const WEB_ID = 'spiffe://example.org/web';
const HOUR_MS = 3_600_000;
/** Renewed at half of it: long enough for the server to be killed several times in between. */
const AGENT_LIFE_SECONDS = 180;
/** A host asks for its renewal at 0.6 of its certificate's life at the latest, and backs off between attempts. */
const RENEWAL_WITHIN_MS = AGENT_LIFE_SECONDS * 1000;

let gate: DatabaseGate;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open({
    serverSettings: { svid: { agent_ttl_seconds: AGENT_LIFE_SECONDS } },
    startDatabase: async (host) => {
      gate = await DatabaseGate.open(host);
      return gate.url;
    },
  });
}, 120_000);

afterAll(async () => {
  await shop.close();
  await gate.close();
});

/** Kills the server when it comes to `moment`, which `work` may lead to, and starts it again. */
async function dieAt(moment: Moment, work: () => void = () => undefined): Promise<void> {
  const { control } = shop.mesh;
  const death = await gate.arm(moment, control.pid);
  work();
  await waitUntil(`it comes to ${JSON.stringify(moment)}`, () => death.hasCome, RENEWAL_WITHIN_MS);
  await control.stop();
  await control.start();
}

async function dieAtEach(moments: readonly Moment[]): Promise<void> {
  for (const moment of moments) await dieAt(moment);
}

async function statusOf(host: MeshHost): Promise<z.output<typeof statusAnswer>> {
  return statusAnswer.parse(JSON.parse(await host.picketOk('agent', 'status', '--json')));
}

/** Waits until both hosts have the policy that the server says is in force. */
async function policyInForce(): Promise<number> {
  const { items } = await shop.mesh.control.picketJson(policyPage, 'policy', 'list');
  const inForce = items.find(({ activeSequence }) => activeSequence !== null)!;
  for (const host of [shop.store, shop.desk])
    await waitUntil(
      `${host.name} has taken it`,
      async () => (await statusOf(host)).policy?.sequence === inForce.activeSequence,
      60_000,
    );
  return inForce.version;
}

/** When the certificate of /web on its host ends. */
async function endOfWebMs(): Promise<number> {
  const { identities } = await statusOf(shop.desk);
  return Date.parse(identities.find(({ spiffeId }) => spiffeId === WEB_ID)?.notAfter ?? '');
}

describe('the server killed under load', () => {
  test('while a policy is published and taken: it is in force everywhere in the end, or nowhere', async () => {
    const { control } = shop.mesh;
    const narrow = join(import.meta.dirname, '../../kit/policies/shop');
    const wide = join(shop.folder, 'wide');
    cpSync(narrow, wide, { recursive: true });
    appendFileSync(
      join(wide, 'policy.rego'),
      '\nallow if {\n\tinput.caller.path == "/reports"\n\tinput.target.path == "/invoices"\n}\n',
    );
    let isWide = false;
    let version = await policyInForce();
    const publishKilledAt = async (moment: Moment): Promise<RunResult> => {
      let publication: Promise<RunResult> | undefined;
      isWide = !isWide;
      await dieAt(moment, () => {
        publication = control.picket(
          'policy',
          'publish',
          isWide ? wide : narrow,
          '-m',
          JSON.stringify(moment),
        );
      });
      return await publication!;
    };
    const expectInForce = async (): Promise<void> => {
      expect(await policyInForce()).toBe(version);
      expect((await shop.ask(reports, '/invoices')).status).toBe(isWide ? 200 : 403);
    };
    await SteadyLoad.during(shop, async () => {
      const lost = await publishKilledAt({ sql: 'insert into "policy_activations"' });
      expect(lost.exitCode).not.toBe(0);
      isWide = !isWide;
      await expectInForce();
      const unanswered = await publishKilledAt({ sql: 'insert into "policy_activations"', atCommit: true });
      expect(unanswered.exitCode).not.toBe(0);
      version += 1;
      await expectInForce();
      for (const moment of [
        { sql: 'from "change_log"' },
        { sql: 'select "artifact"' },
        { sql: 'select "artifact"', occurrence: 2 },
      ]) {
        await publishKilledAt(moment);
        version += 1;
        await expectInForce();
      }
    });
  });

  test('while decisions are shipped, before they are stored and before that is acknowledged: each is stored once', async () => {
    await SteadyLoad.during(shop, async () => {
      await dieAtEach([
        { sql: 'insert into "access_log"' },
        { sql: 'insert into "access_log"', atCommit: true },
        { sql: 'insert into "access_log"' },
        { sql: 'update "access_cursors"', atCommit: true },
      ]);
    });
  });

  test('while a workload’s certificate is made anew: its host gets it when the server is back, and goes on with the old one until then', async () => {
    const { control } = shop.mesh;
    const { items } = await control.picketJson(entryPage, 'entry', 'list');
    const { entryId } = items.find(({ spiffeId }) => spiffeId === WEB_ID)!;
    const firstEndMs = await endOfWebMs();
    await SteadyLoad.during(shop, async () => {
      const issue = { sql: 'insert into "issued_svids"', parameter: WEB_ID };
      await dieAt(issue, () => void control.picket('entry', 'update', entryId, '--ttl', '30h'));
      await dieAt({ ...issue, atCommit: true });
      await waitUntil('the host has it', async () => (await endOfWebMs()) > firstEndMs + HOUR_MS, 60_000);
    });
  });

  test('while a host renews its own certificate: it keeps its standing and never has to prove itself anew', async () => {
    const { control } = shop.mesh;
    const nodes = async () => (await control.picketJson(nodePage, 'node', 'list')).items;
    const before = await nodes();
    await SteadyLoad.during(shop, async () => {
      await dieAtEach([
        { sql: 'update "nodes" set "cert_serial"' },
        { sql: 'update "nodes" set "cert_serial"', atCommit: true },
        { sql: 'insert into "issued_svids"' },
        { sql: 'insert into "issued_svids"', atCommit: true },
      ]);
      for (const { nodeId, certSerial } of before)
        await waitUntil(
          `${nodeId} is renewed`,
          async () => (await nodes()).find((node) => node.nodeId === nodeId)?.certSerial !== certSerial,
          RENEWAL_WITHIN_MS,
        );
    });
    const attested = (all: typeof before): readonly string[] => all.map(({ attestedAt }) => attestedAt);
    expect(attested(await nodes())).toEqual(attested(before));
    await shop.mesh.register({ path: '/late', on: shop.desk, selectors: ['unix:uid:7041'] });
    await waitUntil(
      'the hosts are told of changes',
      async () => (await shop.ask(7041, '/invoices')).status === 403,
    );
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
  });
});
