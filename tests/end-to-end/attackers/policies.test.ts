import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { policyPage } from '../../../shared/protocol/operator.ts';
import { buildTar } from '../../../shared/policy/tar.ts';
import { curl, type CurlAnswer } from '../../kit/programs.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';

/** Policies that are meant to do harm: none becomes a version, and decisions go on. What a host does with an altered or an older one is in agent/policy. */

setDefaultTimeout(60_000);

const ALLOW = 'package picket.authz\n\nallow := true\n';
const BLOCK = 512;
let shop: Shop;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

/** A tar of one policy, its first header changed. */
function tarWith(change: (header: Buffer) => void, name = 'policy.rego'): Buffer {
  const tar = Buffer.from(buildTar(new Map([[name, Buffer.from(ALLOW)]])));
  const header = tar.subarray(0, BLOCK);
  change(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return gzipSync(tar);
}

const renamed = (name: string): Buffer =>
  tarWith((header) => {
    header.fill(0, 0, 100);
    header.write(name, 0, 'latin1');
  });
const typed = (type: string, target: string): Buffer =>
  tarWith((header) => {
    header.write(type, 156, 'latin1');
    header.write(target, 157, 'latin1');
  });
const rego = (text: string): Buffer => Buffer.from(JSON.stringify({ files: { 'policy.rego': text } }));

/** Eight thousand million comparisons that keep nothing. */
const ENDLESS = `package picket.authz

allow if {
	some a in numbers.range(1, 2000)
	some b in numbers.range(1, 2000)
	some c in numbers.range(1, 2000)
	a < b
	b < c
	c < a
}
`;
const HUNGRY = 'package picket.authz\n\nallow if count([x | some x in numbers.range(1, 2000000000)]) > 5\n';
const CURIOUS = 'package picket.authz\n\nallow if opa.runtime().env.HOME != ""\n';
const CALLING =
  'package picket.authz\n\nallow if http.send({"method": "get", "url": "http://10.9.0.1/"}).status_code == 200\n';

/** What is sent as the body of POST /policies, and the reason for which it is refused. */
const BODIES: Readonly<Record<string, readonly [() => Buffer, string]>> = {
  'of 10 MB': [() => rego(`# ${'x'.repeat(10 * 1024 * 1024)}\n${ALLOW}`), 'body_too_large'],
  'in an archive that unpacks to a gigabyte': [() => gzipSync(Buffer.alloc(1024 ** 3)), 'archive_too_big'],
  'with a path that leads out': [() => renamed('../../policy.rego'), 'archive_invalid'],
  'with an absolute path that leads out': [() => renamed('/../etc/policy.rego'), 'archive_invalid'],
  'with a symbolic link': [() => typed('2', '/etc/passwd'), 'archive_invalid'],
  'with a hard link': [() => typed('1', '/etc/passwd'), 'archive_invalid'],
  'with a device': [() => typed('3', ''), 'archive_invalid'],
  'in an archive that is cut': [() => renamed('policy.rego').subarray(0, 40), 'archive_invalid'],
  'that never ends': [() => rego(ENDLESS), 'policy_sample_failed'],
  'that eats memory': [() => rego(HUNGRY), 'policy_sample_failed'],
  'that asks the network': [() => rego(CALLING), 'policy_forbidden_builtin'],
  'that reads the environment': [() => rego(CURIOUS), 'policy_forbidden_builtin'],
};

async function post(body: Uint8Array): Promise<CurlAnswer> {
  const file = join(shop.folder, 'body');
  writeFileSync(file, body);
  const { host, socket } = shop.mesh.control;
  const headers = ['-H', 'content-type: application/octet-stream', '-H', 'expect:'];
  const data = ['--data-binary', `@${file}`, 'http://picket/policies?message=harm'];
  return await curl(host, { uid: 0, args: ['--unix-socket', socket, '-m', '45', ...headers, ...data] });
}

describe('a policy', () => {
  for (const [name, [make, reason]] of Object.entries(BODIES))
    test(`${name} is refused within seconds, and nothing changes`, async () => {
      const { control } = shop.mesh;
      const before = await control.picketJson(policyPage, 'policy', 'list');
      const startMs = performance.now();
      const { status, body } = await post(make());
      expect(status).toBeOneOf([400, 413]);
      expect(body).toContain(`"reason":"${reason}"`);
      expect(performance.now() - startMs).toBeLessThan(40_000);
      expect(await control.picketJson(policyPage, 'policy', 'list')).toEqual(before);
      expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
    });
});
