import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog, type Log } from '../../shared/runtime/log.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { createTestCa } from '../../tests/kit/test-ca.ts';
import { encryptPkcs8 } from '../key-manager/encrypted-pkcs8.ts';
import type { KeyManager, SigningKey } from '../key-manager/key-manager.ts';
import { MemoryKeyManager } from '../key-manager/memory.ts';
import { generatePkcs8 } from '../key-manager/software-key.ts';
import { openAuthority } from './open-authority.ts';

describe('openAuthority()', () => {
  let folder: string;
  let clock: FakeClock;
  let keys: KeyManager;
  const file = (name: string): string => join(folder, name);
  const open = (
    change: { readonly trustDomain?: string; readonly keys?: KeyManager; readonly log?: Log } = {},
  ) =>
    openAuthority({
      directory: folder,
      keys: change.keys ?? keys,
      trustDomain: parseTrustDomain(change.trustDomain ?? 'example.org'),
      clock,
      random: (length) => randomBytes(length),
      log: change.log ?? silentLog,
    });
  /** Files of a fresh ceremony; `createTestCa` has taken the keys in, so new ones are laid out again. */
  const layOut = async (): Promise<void> => {
    const kept = new MemoryKeyManager();
    const { createOnlineMaterial, createRoot, DEFAULT_LIVES } = await import('./ceremony.ts');
    const trustDomain = parseTrustDomain('example.org');
    const root = await createRoot(trustDomain, {
      nowMs: clock.nowMs(),
      lifeSeconds: DEFAULT_LIVES.rootSeconds,
    });
    const online = await createOnlineMaterial(root, {
      trustDomain,
      nowMs: clock.nowMs(),
      lives: DEFAULT_LIVES,
    });
    writeFileSync(file('bundle.pem'), root.certificatePem);
    writeFileSync(file('intermediate.pem'), online.intermediatePem);
    writeFileSync(file('intermediate.key'), encodePem('PRIVATE KEY', online.intermediateKeyPkcs8));
    writeFileSync(file('policy.pem'), online.policyPem);
    writeFileSync(file('policy.key'), encodePem('PRIVATE KEY', online.policyKeyPkcs8));
    keys = kept;
  };

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'picket-open-ca-'));
    clock = new FakeClock();
    await layOut();
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('takes the keys in, removes their files, and opens again without them', async () => {
    await open();
    expect(existsSync(file('intermediate.key'))).toBe(false);
    expect(existsSync(file('policy.key'))).toBe(false);
    expect((await open()).intermediateNotAfterMs).toBeGreaterThan(clock.nowMs());
  });

  test('refuses a folder without its files, and keys that are nowhere', async () => {
    await open();
    expect((await refusalOf(open({ keys: new MemoryKeyManager() }))).reason).toBe('ca_key_missing');
    rmSync(file('policy.pem'));
    expect((await refusalOf(open())).reason).toBe('ca_missing');
  });

  test('refuses a key that does not belong to its certificate', async () => {
    writeFileSync(file('intermediate.key'), encodePem('PRIVATE KEY', await generatePkcs8()));
    expect((await refusalOf(open())).reason).toBe('ca_mismatch');
  });

  test('lets a wrong key file replace no key that is kept, and does not remove it', async () => {
    await open();
    const kept = (await keys.find('intermediate'))?.publicKeySpki;
    writeFileSync(file('intermediate.key'), encodePem('PRIVATE KEY', await generatePkcs8()));
    expect((await refusalOf(open())).reason).toBe('ca_mismatch');
    expect((await keys.find('intermediate'))?.publicKeySpki).toEqual(kept as Uint8Array);
    expect(existsSync(file('intermediate.key'))).toBe(true);
    rmSync(file('intermediate.key'));
    await open();
  });

  test('takes in what picket ca renew laid out, in the place of the old', async () => {
    const before = await open();
    const sameKeys = keys;
    await layOut();
    const after = await open({ keys: sameKeys });
    const request = { ttlSeconds: 60, dnsNames: [], spiffeId: parseSpiffeId('spiffe://example.org/web') };
    const publicKeySpki = ((await sameKeys.find('policy')) as SigningKey).publicKeySpki;
    const issued = await after.issue({ ...request, publicKeySpki });
    const bundle = after.bundle.current;
    expect(verifyX509Svid(issued.chain, new Map([[bundle.trustDomain, bundle]]), clock.nowMs()).serial).toBe(
      issued.serial,
    );
    expect((await refusalOf(before.issue({ ...request, publicKeySpki }))).reason).toBe('key_replaced');
  });

  test('rootKeySha256 is that of the root that the intermediate stands on, wherever it stands in the bundle', async () => {
    const read = (name: string): string => readFileSync(file(name), 'utf8');
    const old = read('bundle.pem');
    const oldPin = (await open()).rootKeySha256;
    await layOut();
    const [first, newPin] = [read('bundle.pem'), (await open()).rootKeySha256];
    expect(newPin).not.toBe(oldPin);
    for (const bundle of [old + first, first + old]) {
      writeFileSync(file('bundle.pem'), bundle);
      expect((await open()).rootKeySha256).toBe(newPin);
    }
  });

  test('refuses files that hold no certificate, or more than one', async () => {
    const text = readFileSync(file('intermediate.pem'), 'utf8');
    for (const content of ['', 'garbage', `${text}${text}`, text.replace('A', 'B'), text.slice(0, -30)]) {
      writeFileSync(file('intermediate.pem'), content);
      expect((await refusalOf(open())).reason).toBe('ca_untrusted');
    }
    writeFileSync(file('intermediate.pem'), text);
    writeFileSync(file('bundle.pem'), '');
    expect((await refusalOf(open())).reason).toBe('ca_untrusted');
    expect(existsSync(file('intermediate.key'))).toBe(true);
  });

  test('refuses a key file that is no key or an encrypted one', async () => {
    writeFileSync(file('policy.key'), 'garbage');
    expect((await refusalOf(open())).reason).toBe('key_unreadable');
    writeFileSync(file('policy.key'), await encryptPkcs8(await generatePkcs8(), 'a passphrase', 1000));
    expect((await refusalOf(open())).reason).toBe('passphrase_missing');
  });

  test('warns from thirty days before a certificate ends', async () => {
    const lines: string[] = [];
    const log = createLog({ level: 'warn', nowMs: () => 0, write: (line) => lines.push(line) });
    await open({ log });
    expect(lines).toEqual([]);
    clock.advance(336 * 86_400_000);
    await open({ log });
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      event: 'ca_certificate_ends_soon',
      certificate: 'intermediate',
    });
  });

  test('refuses certificates of another root, of another trust domain, or that have ended', async () => {
    expect((await refusalOf(open({ trustDomain: 'other.org' }))).reason).toBe('ca_untrusted');
    const other = mkdtempSync(join(tmpdir(), 'picket-open-ca-'));
    await createTestCa({ folder: other, clock });
    cpSync(join(other, 'bundle.pem'), file('bundle.pem'));
    rmSync(other, { recursive: true });
    expect((await refusalOf(open())).reason).toBe('ca_untrusted');
    await layOut();
    clock.advance(2 * 365 * 86_400_000);
    expect((await refusalOf(open())).reason).toBe('ca_untrusted');
  });

  test('refuses the policy certificate in the place of the intermediate', async () => {
    cpSync(file('policy.pem'), file('intermediate.pem'));
    cpSync(file('policy.key'), file('intermediate.key'));
    expect((await refusalOf(open())).reason).toBe('ca_untrusted');
  });
});
