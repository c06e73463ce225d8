import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { run, runOk } from '../kit/child.ts';
import { picketBinary } from '../kit/picket-binary.ts';

/** The offline ceremony through the compiled binary. */

const report = z.object({
  rootKeySha256: z.string(),
  certificates: z.array(
    z.object({ file: z.string(), uri: z.string(), notAfter: z.string(), keySha256: z.string() }),
  ),
});

describe('picket ca', () => {
  let folder: string;
  const file = (name: string): string => join(folder, name);
  const picket = async (...args: string[]) => await run([picketBinary(), 'ca', ...args]);
  const passphrase = (): string[] => ['--passphrase-file', file('passphrase')];
  const init = async (...args: string[]) =>
    await picket('init', '--trust-domain', 'example.org', '--out', file('ca'), ...args);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'picket-ceremony-'));
    writeFileSync(file('passphrase'), 'correct horse battery staple\n');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('init makes a root whose key only the passphrase opens, and what it signed verifies', async () => {
    const { exitCode, stderr } = await init(...passphrase());
    expect(exitCode).toBe(0);
    expect(stderr).toContain('Take it off this machine');
    expect(statSync(file('ca/root.key')).mode & 0o777).toBe(0o600);
    expect(readFileSync(file('ca/root.key'), 'utf8')).toStartWith('-----BEGIN ENCRYPTED PRIVATE KEY-----');
    await runOk([
      'openssl',
      'pkey',
      '-in',
      file('ca/root.key'),
      '-noout',
      '-passin',
      `file:${file('passphrase')}`,
    ]);
    const wrong = await run([
      'openssl',
      'pkey',
      '-in',
      file('ca/root.key'),
      '-noout',
      '-passin',
      'pass:wrong',
    ]);
    expect(wrong.exitCode).not.toBe(0);
    for (const name of ['intermediate', 'policy'])
      await runOk([
        'openssl',
        'verify',
        '-x509_strict',
        '-CAfile',
        file('ca/root.pem'),
        file(`ca/online/${name}.pem`),
      ]);
  });

  test('show tells the hash by which hosts pin the root, as OpenSSL computes it', async () => {
    await init(...passphrase());
    const { stdout } = await picket('show', file('ca'), '--json');
    const { rootKeySha256, certificates } = report.parse(JSON.parse(stdout));
    const pipeline = `openssl x509 -in ${file('ca/root.pem')} -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum`;
    expect(await runOk(['sh', '-c', pipeline])).toStartWith(rootKeySha256);
    expect(certificates.map(({ uri }) => uri)).toEqual([
      'spiffe://example.org',
      'spiffe://example.org',
      'spiffe://example.org/picket/policy-signer',
    ]);
  });

  test('show reads a single file, and the folder of a server that never had the root’s key', async () => {
    await init(...passphrase());
    const all = report.parse(JSON.parse((await picket('show', file('ca'), '--json')).stdout));
    const read = async (path: string) =>
      report.parse(JSON.parse((await picket('show', path, '--json')).stdout));
    const online = await read(file('ca/online'));
    expect(online.rootKeySha256).toBe(all.rootKeySha256);
    expect(online.certificates).toHaveLength(3);
    expect((await read(file('ca/online/bundle.pem'))).rootKeySha256).toBe(all.rootKeySha256);
    const intermediate = await picket('show', file('ca/online/intermediate.pem'));
    expect(intermediate.stdout).toContain('CN=Picket intermediate');
    mkdirSync(file('empty'));
    expect((await picket('show', file('empty'))).exitCode).toBe(4);
    expect((await picket('show', file('absent'))).exitCode).toBe(2);
    expect((await picket('show', file('passphrase'))).exitCode).toBe(2);
  });

  test('init changes nothing where a root that was put away has signed', async () => {
    await init(...passphrase());
    const before = readFileSync(file('ca/online/intermediate.pem'), 'utf8');
    for (const name of ['root.pem', 'root.key']) rmSync(file(`ca/${name}`));
    expect((await init(...passphrase())).exitCode).toBe(5);
    expect(readFileSync(file('ca/online/intermediate.pem'), 'utf8')).toBe(before);
  });

  test('renew keeps a bundle that holds another root beside its own', async () => {
    await init(...passphrase());
    await picket('init', '--trust-domain', 'example.org', '--out', file('new'), ...passphrase());
    const both = readFileSync(file('ca/root.pem'), 'utf8') + readFileSync(file('new/root.pem'), 'utf8');
    writeFileSync(file('ca/online/bundle.pem'), both);
    expect((await picket('renew', file('ca'), ...passphrase())).exitCode).toBe(0);
    expect(readFileSync(file('ca/online/bundle.pem'), 'utf8')).toBe(both);
  });

  test('init says where it cannot write', async () => {
    const { exitCode, stderr } = await init('--root-key', file('not-mounted/root.key'));
    expect(exitCode).toBe(2);
    expect(stderr).toContain('not-mounted/root.key');
  });

  test('init changes nothing where a root stands already', async () => {
    await init(...passphrase());
    const before = readFileSync(file('ca/root.pem'), 'utf8');
    const { exitCode, stderr } = await init(...passphrase());
    expect(exitCode).toBe(5);
    expect(stderr).toContain('already there');
    expect(readFileSync(file('ca/root.pem'), 'utf8')).toBe(before);
  });

  test('renew signs a new intermediate with the same root, by the right passphrase only', async () => {
    await init(...passphrase());
    const before = readFileSync(file('ca/online/intermediate.pem'), 'utf8');
    writeFileSync(file('wrong'), 'a wrong passphrase\n');
    expect((await picket('renew', file('ca'), '--passphrase-file', file('wrong'))).exitCode).toBe(5);
    expect(readFileSync(file('ca/online/intermediate.pem'), 'utf8')).toBe(before);
    expect((await picket('renew', file('ca'), ...passphrase())).exitCode).toBe(0);
    expect(readFileSync(file('ca/online/intermediate.pem'), 'utf8')).not.toBe(before);
    await runOk([
      'openssl',
      'verify',
      '-x509_strict',
      '-CAfile',
      file('ca/root.pem'),
      file('ca/online/intermediate.pem'),
    ]);
  });

  test('init keeps the root’s key unencrypted only at a place that is named', async () => {
    const { exitCode } = await init('--root-key', file('usb.key'));
    expect(exitCode).toBe(0);
    expect(readFileSync(file('usb.key'), 'utf8')).toStartWith('-----BEGIN PRIVATE KEY-----');
    expect(statSync(file('usb.key')).mode & 0o777).toBe(0o600);
    expect((await picket('renew', file('ca'), '--root-key', file('usb.key'))).exitCode).toBe(0);
  });

  test('init refuses a short passphrase, a bad trust domain, and having nobody to ask', async () => {
    writeFileSync(file('short'), 'short\n');
    expect((await init('--passphrase-file', file('short'))).stderr).toContain('at least 12');
    expect((await picket('init', '--trust-domain', 'No Domain', '--out', file('x'))).exitCode).toBe(2);
    expect((await init()).stderr).toContain('--passphrase-file');
  });
});
