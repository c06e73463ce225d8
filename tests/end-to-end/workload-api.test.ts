import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { Child, run, runOk, type RunResult } from '../kit/child.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { waitUntil } from '../kit/wait.ts';
import { WorkloadClient, x509SvidAnswer } from '../kit/workload-client.ts';

/** The SPIFFE Workload API of the compiled agent, asked by grpc-js as other users. */

setDefaultTimeout(60_000);

const { web, nobody } = SHOP_USERS;
let shop: Shop;
let client: WorkloadClient;

beforeAll(async () => {
  shop = await Shop.open();
  client = await WorkloadClient.build(shop.folder);
}, 120_000);
afterAll(async () => await shop.close());

const command = (uid: number, method: string, count: number, ...flags: string[]): string[] =>
  client.command(shop.desk, uid, method, count, ...flags);
const ask = async (uid: number, method = 'FetchX509SVID', ...flags: string[]): Promise<RunResult> =>
  await run(command(uid, method, 1, ...flags), { cwd: '/' });

/** DER certificates one after another (SPIFFE Workload API 5.2.1). */
function certificatesIn(chain: Buffer): readonly X509Certificate[] {
  const found: X509Certificate[] = [];
  for (let rest = chain; rest.length > 0; rest = rest.subarray(found.at(-1)!.raw.length))
    found.push(new X509Certificate(rest));
  return found;
}

describe('the Workload API', () => {
  test('gives a process its X509-SVID with its key and the trust bundle', async () => {
    const { stdout } = await ask(web);
    const [svid] = x509SvidAnswer.parse(JSON.parse(stdout)).svids;
    expect(svid?.spiffe_id).toBe('spiffe://example.org/web');
    const leaf = new X509Certificate(Buffer.from(svid?.x509_svid ?? '', 'base64'));
    expect(leaf.subjectAltName).toBe('URI:spiffe://example.org/web');
    writeFileSync(join(shop.folder, 'key.der'), Buffer.from(svid?.x509_svid_key ?? '', 'base64'));
    const publicKey = await runOk([
      'openssl',
      'pkey',
      '-inform',
      'DER',
      '-in',
      join(shop.folder, 'key.der'),
      '-pubout',
    ]);
    expect(leaf.publicKey.export({ format: 'pem', type: 'spki' })).toBe(publicKey);
    const authority = new X509Certificate(Buffer.from(svid?.bundle ?? '', 'base64'));
    expect(authority.ca).toBe(true);
  });

  test('gives a certificate that OpenSSL accepts, with the profile of an X509-SVID', async () => {
    const [svid] = x509SvidAnswer.parse(JSON.parse((await ask(web)).stdout)).svids;
    const files = { leaf: join(shop.folder, 'leaf.pem'), rest: join(shop.folder, 'rest.pem') };
    const [leaf, ...rest] = certificatesIn(Buffer.from(svid?.x509_svid ?? '', 'base64'));
    writeFileSync(files.leaf, leaf!.toString());
    writeFileSync(files.rest, rest.join(''));
    const root = ['-CAfile', shop.mesh.control.bundleFile, '-untrusted', files.rest];
    for (const purpose of ['sslserver', 'sslclient'])
      await runOk(['openssl', 'verify', '-x509_strict', '-purpose', purpose, ...root, files.leaf]);
    const text = await runOk(['openssl', 'x509', '-in', files.leaf, '-noout', '-text']);
    const [, names = ''] = /X509v3 Subject Alternative Name:.*\n\s*(.*)\n/.exec(text) ?? [];
    expect(names).toBe('URI:spiffe://example.org/web');
    expect(text).toMatch(/X509v3 Key Usage: critical\n\s*Digital Signature\n/);
    expect(text).toMatch(/X509v3 Basic Constraints: critical\n\s*CA:FALSE\n/);
    expect(text).toMatch(
      /X509v3 Extended Key Usage:.*\n\s*TLS Web Server Authentication, TLS Web Client Authentication\n/,
    );
    expect(text).toContain('NIST CURVE: P-256');
  });

  test('gives the bundles of the trust domains', async () => {
    const { stdout } = await ask(web, 'FetchX509Bundles');
    const answer = z.object({ bundles: z.record(z.string(), z.string()) }).parse(JSON.parse(stdout));
    expect(Object.keys(answer.bundles)).toEqual(['spiffe://example.org']);
  });

  test('gives a process without an identity nothing: PERMISSION_DENIED', async () => {
    const { stdout, exitCode } = await ask(nobody);
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ error: 7 });
  });

  test('refuses a call without the security header: INVALID_ARGUMENT', async () => {
    const { stdout } = await ask(web, 'FetchX509SVID', '--no-header');
    expect(JSON.parse(stdout)).toMatchObject({ error: 3 });
  });

  test('says that a JWT-SVID is not to be had: UNIMPLEMENTED', async () => {
    const { stdout } = await ask(web, 'FetchJWTBundles');
    expect(JSON.parse(stdout)).toMatchObject({ error: 12 });
  });

  test('sends a new answer when the registration changes, and ends when it is withdrawn', async () => {
    const logFile = join(shop.folder, 'stream.log');
    const stream = new Child({ command: command(7010, 'FetchX509SVID', 2), logFile, cwd: '/' });
    await waitUntil('it is refused at first', () => !stream.isRunning);
    const first = await shop.mesh.register({ path: '/batch', on: shop.desk, selectors: ['unix:uid:7010'] });
    await waitUntil('it is known', async () => (await ask(7010)).exitCode === 0);
    const watching = new Child({ command: command(7010, 'FetchX509SVID', 3), logFile, cwd: '/' });
    await waitUntil('the stream gave one', () => watching.log().split('/batch').length > 1);
    await shop.mesh.register({
      path: '/batch-two',
      on: shop.desk,
      selectors: ['unix:uid:7010', 'unix:gid:7010'],
    });
    await waitUntil('the stream gave both', () => watching.log().includes('/batch-two'));
    await shop.mesh.control.picketOk('entry', 'delete', first);
    await waitUntil('the stream gave the rest', () => !watching.isRunning);
    const last = watching.log().trim().split('\n').at(-1) ?? '';
    expect(x509SvidAnswer.parse(JSON.parse(last)).svids.map(({ spiffe_id }) => spiffe_id)).toEqual([
      'spiffe://example.org/batch-two',
    ]);
  });
});
