import { readFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { Child } from '../../kit/child.ts';
import { asUser, isListening } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import { SmugglingRig } from './smuggling-rig.ts';

/** A policy that keeps a caller from one method, and an application that reads methods in capitals, as Django and Werkzeug do. */

setDefaultTimeout(60_000);

const PORT = 8082;
const USER = 7032;
const POLICY = `package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	input.request.protocol == "http"
	input.request.method != "DELETE"
}
`;
const PROGRAM = readFileSync(join(import.meta.dirname, 'programs/capital-methods.py'), 'utf8');
let rig: SmugglingRig;
let application: Child;

beforeAll(async () => {
  rig = await SmugglingRig.open();
  const { store, mesh, folder } = rig.shop;
  application = new Child({
    command: store.host.in(...asUser(USER, '/usr/bin/python3', '-c', PROGRAM, String(PORT))),
    logFile: join(folder, 'capital-methods.log'),
    cwd: '/',
  });
  await application.ready('it listens', async () => await isListening(store.host, PORT));
  await mesh.register({
    path: '/invoices',
    on: store,
    selectors: [`unix:uid:${USER}`],
    listen: [String(PORT)],
  });
  const policy = join(folder, 'methods-policy');
  mkdirSync(policy);
  writeFileSync(join(policy, 'policy.rego'), POLICY);
  await mesh.control.picketOk('policy', 'publish', policy, '-m', 'no DELETE');
  await waitUntil('it is in force', async () => (await ask('POST')).includes('did POST'));
}, 120_000);
afterAll(async () => {
  await application?.stop();
  await rig?.close();
});

const ask = async (method: string): Promise<string> =>
  await rig.send(`${method} /1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n`, PORT);

test('a method that the policy refuses is not reached in another spelling', async () => {
  expect(await ask('DELETE')).toStartWith('HTTP/1.1 403');
  for (const method of ['delete', 'Delete', 'DELETe']) expect(await ask(method)).toStartWith('HTTP/1.1 400');
  expect(application.log().toUpperCase()).not.toContain('DELETE');
  expect(await ask('PUT')).toContain('did PUT');
});
