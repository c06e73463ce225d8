import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../tests/kit/child.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import {
  makeInspectionAuthority,
  type InspectionAuthorityFiles,
  type InspectionAuthorityOptions,
} from '../../tests/kit/inspection-authority.ts';
import { makeOutsideCertificate } from '../../tests/kit/outside-certificate.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { decodePemBlocks } from '../../shared/wire/pem.ts';
import { parseX509Certificate } from '../../shared/wire/x509-certificate.ts';
import { InspectionAuthority } from './inspection-authority.ts';

/** With authorities of OpenSSL, which judges what they sign as well. */

const NAME = 'api.partner.test';
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const P_256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const RSA = ['-newkey', 'rsa:2048'];
const P_384 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'];
const CA = 'basicConstraints=critical,CA:TRUE';
const SIGNS = 'keyUsage=critical,keyCertSign';

let folder: string;
let clock: FakeClock;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'picket-inspection-authority-'));
  // Certificates that are made from now on are valid by then.
  clock = new FakeClock(Date.now() + MINUTE_MS);
});
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;
async function make(options: InspectionAuthorityOptions = {}): Promise<InspectionAuthorityFiles> {
  return await makeInspectionAuthority(join(folder, String(made++)), options);
}

function open({ certificate, key }: InspectionAuthorityFiles, at = clock): InspectionAuthority {
  const [chainPem, keyPem] = [readFileSync(certificate, 'utf8'), readFileSync(key, 'utf8')];
  return new InspectionAuthority({ chainPem, keyPem }, at);
}

const leafOf = (authority: InspectionAuthority, name = NAME): X509Certificate =>
  new X509Certificate(authority.issue(name).chainPem);

/** Whether OpenSSL takes a certificate for a purpose. */
async function verifies(leaf: X509Certificate, files: InspectionAuthorityFiles, ...more: readonly string[]) {
  const path = join(folder, 'leaf.pem');
  writeFileSync(path, leaf.toString());
  const { exitCode } = await run([
    'openssl',
    'verify',
    '-x509_strict',
    '-CAfile',
    files.certificate,
    ...more,
    path,
  ]);
  return exitCode === 0;
}

describe('the chain of an authority', () => {
  const chained = (
    chain: readonly InspectionAuthorityFiles[],
    { key }: InspectionAuthorityFiles,
  ): InspectionAuthority => {
    const chainPem = chain.map(({ certificate }) => readFileSync(certificate, 'utf8')).join('');
    return new InspectionAuthority({ chainPem, keyPem: readFileSync(key, 'utf8') }, clock);
  };

  test('ends with the first of its certificates that does, and with it what is issued', async () => {
    const root = await make({ days: 1, extensions: [CA, SIGNS] });
    const below = await make({ days: 30, issuer: root });
    const authority = chained([below, root], below);
    const rootEndsMs = Date.parse(new X509Certificate(readFileSync(root.certificate)).validTo);
    expect(authority.status.notAfterMs).toBe(rootEndsMs);
    clock = new FakeClock(rootEndsMs - HOUR_MS);
    expect(Date.parse(leafOf(chained([below, root], below)).validTo)).toBe(rootEndsMs);
    clock = new FakeClock(Date.now() + MINUTE_MS);
  });

  test('must be one', async () => {
    const [below, stranger] = [await make(), await make()];
    expect(reasonOf(() => chained([below, stranger], below))).toBe('inspection_invalid');
  });

  test('may not restrict subjects, of which ours would be none', async () => {
    const config = join(folder, 'directory-name.cnf');
    const constraint = 'nameConstraints=critical,permitted;dirName:only';
    const sections = ['[req]', 'distinguished_name=only', 'x509_extensions=v3', '[only]', 'O=Example'];
    writeFileSync(config, [...sections, '[v3]', CA, SIGNS, constraint].join('\n'));
    const restricted = await make({ extensions: [], keyArgs: [...P_256, '-config', config] });
    expect(() => open(restricted)).toThrow('directoryName');
  });
});

describe('InspectionAuthority.issue()', () => {
  test.each<[string, string[]]>([
    ['P-256', P_256],
    ['P-384', P_384],
    ['RSA', RSA],
  ])('certifies a server of that name, and nothing else, with a key on %s', async (_, keyArgs) => {
    const files = await make({ keyArgs });
    const leaf = leafOf(open(files));
    expect(await verifies(leaf, files, '-purpose', 'sslserver', '-verify_hostname', NAME)).toBe(true);
    expect(await verifies(leaf, files, '-purpose', 'sslserver', '-verify_hostname', 'other.test')).toBe(
      false,
    );
    for (const purpose of ['sslclient', 'smimesign', 'timestampsign'])
      expect([purpose, await verifies(leaf, files, '-purpose', purpose)]).toEqual([purpose, false]);
    expect(leaf.subjectAltName).toBe(`DNS:${NAME}`);
    expect(leaf.ca).toBe(false);
  });

  test('says who signed, under a serial that is new and positive, for half a day at most', async () => {
    const files = await make();
    const authority = open(files);
    const parsed = (name: string) => parseX509Certificate(new Uint8Array(leafOf(authority, name).raw));
    const [one, other] = [parsed(NAME), parsed('other.test')];
    expect(one.serial).not.toBe(other.serial);
    expect(one.serial).toMatch(/^[4-7]/);
    expect(one.notAfterMs - clock.nowMs()).toBeLessThanOrEqual(12 * HOUR_MS);
    expect(one.notBeforeMs).toBeLessThanOrEqual(clock.nowMs());
    const [root] = decodePemBlocks('CERTIFICATE', readFileSync(files.certificate, 'utf8'));
    expect(Buffer.from(one.issuer)).toEqual(Buffer.from(parseX509Certificate(root!).subject));
    expect(leafOf(authority).checkIssued(new X509Certificate(readFileSync(files.certificate)))).toBe(true);
  });

  test('makes one for a name, and another when that one has served its time', async () => {
    const at = new FakeClock(clock.nowMs());
    const authority = open(await make(), at);
    const first = authority.issue(NAME);
    expect(authority.issue(NAME)).toBe(first);
    at.advance(6 * HOUR_MS + 1);
    const second = authority.issue(NAME);
    expect(second.chainPem).not.toBe(first.chainPem);
    expect(second.keyPem).toBe(first.keyPem);
  });

  test('keeps so many names and no more', async () => {
    const authority = open(await make());
    const first = authority.issue(NAME);
    for (let i = 0; i < 1024; i++) authority.issue(`n${i}.test`);
    expect(authority.issue('n1023.test')).toBe(authority.issue('n1023.test'));
    expect(authority.issue(NAME)).not.toBe(first);
  });

  test('outlives its authority by nothing', async () => {
    const at = new FakeClock(clock.nowMs());
    const files = await make({ days: 1 });
    const authority = open(files, at);
    at.advance(20 * HOUR_MS);
    const endMs = authority.status.notAfterMs;
    expect(Date.parse(leafOf(authority).validTo)).toBe(endMs);
    expect(authority.findFault(NAME)).toBeUndefined();
    at.advance(5 * HOUR_MS);
    expect(authority.findFault(NAME)?.reason).toBe('inspection_not_configured');
  });

  test('is not for names that its name constraints leave out', async () => {
    const constrained =
      'nameConstraints=critical,permitted;DNS:partner.test,excluded;DNS:secret.partner.test';
    const files = await make({ extensions: [CA, SIGNS, constrained] });
    const authority = open(files);
    expect(authority.findFault(NAME)).toBeUndefined();
    expect(await verifies(leafOf(authority), files, '-purpose', 'sslserver')).toBe(true);
    for (const name of ['api.other.test', 'a.secret.partner.test'])
      expect(authority.findFault(name)?.reason).toBe('inspection_refused');
  });
});

describe('new InspectionAuthority()', () => {
  test.each([
    ['no authority', ['basicConstraints=critical,CA:FALSE', SIGNS], 'basicConstraints'],
    ['one that may not sign', [CA, 'keyUsage=critical,digitalSignature'], 'keyUsage'],
    ['one that does not say what it may', [CA], 'keyUsage'],
    ['one for clients alone', [CA, SIGNS, 'extendedKeyUsage=clientAuth'], 'extendedKeyUsage'],
    ['one that is restricted in another way', [CA, SIGNS, '1.2.3.4=critical,ASN1:NULL'], '1.2.3.4'],
  ])('refuses %s', async (_, extensions, why) => {
    const files = await make({ extensions });
    expect(reasonOf(() => open(files))).toBe('inspection_invalid');
    expect(() => open(files)).toThrow(why);
  });

  test('refuses a key that is another’s, or too weak', async () => {
    const [one, other] = [await make(), await make()];
    expect(() => open({ certificate: one.certificate, key: other.key })).toThrow(
      'not that of the certificate',
    );
    const weak = await make({ keyArgs: ['-newkey', 'rsa:1024'] });
    expect(() => open(weak)).toThrow('2048');
  });

  test('refuses one that has ended, or is not valid yet', async () => {
    const files = await make({ days: 1 });
    const at = (ms: number) => () => open(files, new FakeClock(Date.now() + ms));
    expect(at(25 * HOUR_MS)).toThrow('has ended');
    expect(at(-HOUR_MS)).toThrow('not valid before');
  });

  test('refuses one without a name, and one below such a one', async () => {
    const nameless = await make({ subject: '/', extensions: [CA, SIGNS] });
    expect(reasonOf(() => open(nameless))).toBe('inspection_invalid');
    expect(() => open(nameless)).toThrow('its certificate has an empty subject');
    const below = await make({ issuer: nameless });
    const chainPem = [below, nameless].map(({ certificate }) => readFileSync(certificate, 'utf8')).join('');
    const read = () => new InspectionAuthority({ chainPem, keyPem: readFileSync(below.key, 'utf8') }, clock);
    expect(read).toThrow('is followed by number 2, which has an empty subject');
  });

  test('refuses what is no certificate and no key', async () => {
    const good = await make();
    expect(reasonOf(() => open({ certificate: good.key, key: good.key }))).toBe('inspection_invalid');
    expect(reasonOf(() => open({ certificate: good.certificate, key: good.certificate }))).toBe(
      'inspection_invalid',
    );
  });

  test('knows those above it', async () => {
    const root = await makeOutsideCertificate(join(folder, 'root'), { names: ['root.test'] });
    const files = await make({ issuer: root });
    const chain = `${readFileSync(files.certificate, 'utf8')}${readFileSync(root.certificate, 'utf8')}`;
    const authority = new InspectionAuthority(
      { chainPem: chain, keyPem: readFileSync(files.key, 'utf8') },
      clock,
    );
    expect(decodePemBlocks('CERTIFICATE', authority.issue(NAME).chainPem)).toHaveLength(3);
    expect(authority.status.authority).toContain('Inspection CA');
  });
});
