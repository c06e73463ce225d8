import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { createTestCa } from '../../tests/kit/test-ca.ts';
import type { KeyManager } from '../key-manager/key-manager.ts';
import { MemoryKeyManager } from '../key-manager/memory.ts';
import { generatePkcs8 } from '../key-manager/software-key.ts';
import { openAuthority } from './open-authority.ts';

describe('openAuthority()', () => {
  let folder: string;
  let clock: FakeClock;
  let keys: KeyManager;
  const file = (name: string): string => join(folder, name);
  const open = (change: { readonly trustDomain?: string; readonly keys?: KeyManager } = {}) =>
    openAuthority({
      directory: folder,
      keys: change.keys ?? keys,
      trustDomain: parseTrustDomain(change.trustDomain ?? 'example.org'),
      clock,
      random: (length) => randomBytes(length),
      log: silentLog,
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
