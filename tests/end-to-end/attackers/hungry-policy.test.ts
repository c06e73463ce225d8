import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { waitUntil } from '../../kit/wait.ts';
import { readMemory } from '../traffic/process-memory.ts';

/** A policy that stands every sample of its publication and is harmful for one request alone: that request is denied, within bounds, and the host goes on. */

setDefaultTimeout(120_000);

const { web } = SHOP_USERS;
const MIB = 1024 * 1024;
/** What a sandbox may take is far below. */
const MAX_GROWTH_BYTES = 1024 * MIB;
const HUNGRY = `package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	input.request.parsed_path[0] == "invoices"
}

allow if {
	input.request.parsed_path[0] == "hungry"
	count([x | some x in numbers.range(1, 2000000000)]) > 5
}

allow if {
	input.request.parsed_path[0] == "wrong"
	to_number(input.request.path) > 1
}
`;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
  const folder = join(shop.folder, 'hungry');
  mkdirSync(folder);
  writeFileSync(join(folder, 'policy.rego'), HUNGRY);
  await shop.mesh.control.picketOk('policy', 'publish', folder, '-m', 'hungry');
  await waitUntil('it is in force', async () => (await shop.ask(web, '/refunds')).status === 403);
}, 120_000);
afterAll(async () => await shop.close());

describe('a request for which the policy', () => {
  test('eats memory is denied, and others are answered before and after', async () => {
    const { pid } = shop.store;
    const before = readMemory(pid).residentBytes;
    for (let i = 0; i < 3; i++) {
      const { status, body } = await shop.ask(web, '/hungry', '--max-time', '100');
      expect(status).toBe(403);
      expect(body).toContain('policy_error');
      expect((await shop.ask(web, '/invoices')).status).toBe(200);
    }
    expect(readMemory(pid).residentBytes - before).toBeLessThan(MAX_GROWTH_BYTES);
    expect(shop.store.pid).toBe(pid);
    expect(shop.store.log()).toContain('policy_evaluation_failed');
  });

  test('cannot be evaluated is denied', async () => {
    expect((await shop.ask(web, '/wrong')).status).toBe(403);
    expect((await shop.ask(web, '/invoices')).status).toBe(200);
  });
});
