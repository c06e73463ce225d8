import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from '../../kit/wait.ts';
import { SmugglingRig } from './smuggling-rig.ts';

/** A policy that keeps a caller from one of the hosts of an application, and the names by which nginx would take a request for that host all the same. */

setDefaultTimeout(60_000);

const POLICY = `package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	split(input.request.host, ":")[0] != "admin"
}
`;
let rig: SmugglingRig;

beforeAll(async () => {
  rig = await SmugglingRig.open();
  const folder = join(rig.shop.folder, 'hosts-policy');
  mkdirSync(folder);
  writeFileSync(join(folder, 'policy.rego'), POLICY);
  await rig.shop.mesh.control.picketOk('policy', 'publish', folder, '-m', 'not the admin host');
  await waitUntil('it is in force', async () => (await ask('/', 'admin')).startsWith('HTTP/1.1 403'));
}, 120_000);
afterAll(async () => await rig.close());

const ask = async (target: string, host: string): Promise<string> =>
  await rig.send(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);

describe('a host that the policy refuses', () => {
  test('is not reached under another spelling of its name', async () => {
    const before = (await rig.requestLines()).length;
    for (const host of ['ADMIN', 'Admin:8080', 'admin:1'])
      expect(await ask('/', host)).toStartWith('HTTP/1.1 403');
    for (const host of ['admin.', 'admin.:8080', 'ADMIN.', 'me@admin', 'shop, admin', 'admin/', 'shop admin'])
      expect(await ask('/', host)).toStartWith('HTTP/1.1 400');
    expect((await rig.requestLines()).length).toBe(before);
  });

  test('is not reached by an absolute target, whatever Host says', async () => {
    const before = (await rig.requestLines()).length;
    for (const target of ['http://admin/', 'http://ADMIN:8080/', 'HTTP://admin/'])
      for (const host of ['shop', 'admin', 'ADMIN:8080'])
        expect(await ask(target, host)).toMatch(/^HTTP\/1\.1 40[03] /);
    expect((await rig.requestLines()).length).toBe(before);
  });

  test('keeps no other host from being reached', async () => {
    for (const host of ['shop', 'SHOP', 'shop:8080', 'administration', '10.9.0.2:8080', '[fd09::2]'])
      expect(await ask('/', host)).toStartWith('HTTP/1.1 200');
    expect(await ask('http://SHOP:8080/', 'shop:8080')).toStartWith('HTTP/1.1 200');
  });
});
