import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../shared/runtime/log.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { decodePemBlocks } from '../../shared/wire/pem.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { createTestCa, type TestCa } from '../../tests/kit/test-ca.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { startServerCertificate, type RunningServerCertificate } from './server-certificate.ts';

const HOUR_MS = 3_600_000;
const TRUST_DOMAIN = parseTrustDomain('example.org');

describe('startServerCertificate()', () => {
  let folder: string;
  let clock: FakeClock;
  let ca: TestCa;
  let running: RunningServerCertificate | undefined;
  let lines: string[];

  const start = async (lives: { readonly intermediateSeconds?: number } = {}) => {
    ca = await createTestCa({ folder, clock, lives });
    const log = createLog({ level: 'error', nowMs: () => 0, write: (line) => lines.push(line) });
    running = await startServerCertificate({
      authority: ca.authority,
      trustDomain: TRUST_DOMAIN,
      names: ['server.example.org', '192.0.2.7', '2001:db8::7'],
      clock,
      random: () => 0.5,
      log,
    });
    return running;
  };
  const verified = (chainPem: string) =>
    verifyX509Svid(
      decodePemBlocks('CERTIFICATE', chainPem),
      new Map([[TRUST_DOMAIN, ca.authority.bundle.current]]),
      clock.nowMs(),
    );

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'picket-server-certificate-'));
    clock = new FakeClock();
    lines = [];
  });
  afterEach(async () => {
    await running?.stop();
    running = undefined;
    rmSync(folder, { recursive: true });
  });

  test('gives the server its own SVID, with the key that belongs to it', async () => {
    const { current } = await start();
    const svid = verified(current.chainPem);
    expect(svid.spiffeId as string).toBe('spiffe://example.org/picket/server');
    const leaf = new X509Certificate(current.chainPem);
    expect(leaf.checkHost('server.example.org')).toBe('server.example.org');
    expect(leaf.checkHost('192.0.2.7')).toBeUndefined();
    for (const address of ['192.0.2.7', '2001:db8::7']) expect(leaf.checkIP(address)).toBe(address);
    expect(leaf.checkIP('192.0.2.8')).toBeUndefined();
    expect(current.notAfterMs).toBe(svid.notAfterMs);
    const key = createPublicKey(createPrivateKey(current.keyPem));
    expect(new X509Certificate(current.chainPem).publicKey.equals(key)).toBe(true);
  });

  test('replaces certificate and key at half of the life, again and again', async () => {
    const certificate = await start();
    const seen = [certificate.current];
    certificate.watch((value) => seen.push(value));
    clock.advance(12 * HOUR_MS - 1);
    expect(seen).toHaveLength(1);
    for (let renewals = 1; renewals <= 3; renewals++) {
      clock.advance(12 * HOUR_MS);
      await waitUntil('it was renewed and waits for the next time', () => clock.pending === 1);
      expect(seen).toHaveLength(renewals + 1);
      expect(verified(certificate.current.chainPem).notAfterMs).toBe(certificate.current.notAfterMs);
    }
    expect(new Set(seen.map(({ keyPem }) => keyPem)).size).toBe(4);
  });

  test('keeps what it has and tries again when the intermediate has ended', async () => {
    const certificate = await start({ intermediateSeconds: 86_400 });
    const first = certificate.current;
    expect(first.notAfterMs).toBeLessThanOrEqual(clock.nowMs() + 24 * HOUR_MS);
    clock.jump(25 * HOUR_MS);
    clock.advance(12 * HOUR_MS);
    await waitUntil('it waits for another attempt', () => lines.length === 1 && clock.pending === 1);
    clock.advance(2000);
    await waitUntil('it tried again', () => lines.length === 2 && clock.pending === 1);
    expect(lines[0]).toContain('server_certificate_not_renewed');
    expect(lines[0]).toContain('intermediate_expired');
    expect(certificate.current).toBe(first);
  });

  test('fails when there cannot even be a first one', async () => {
    await start({ intermediateSeconds: 3600 });
    clock.jump(2 * HOUR_MS);
    const options = {
      authority: ca.authority,
      trustDomain: TRUST_DOMAIN,
      names: [],
      clock,
      random: () => 0.5,
      log: createLog({ level: 'error', nowMs: () => 0, write: () => undefined }),
    };
    expect((await refusalOf(startServerCertificate(options))).reason).toBe('intermediate_expired');
  });

  test('leaves no timer when it is stopped, even in the midst of a renewal', async () => {
    const certificate = await start();
    let renewed = 0;
    certificate.watch(() => (renewed += 1));
    clock.advance(12 * HOUR_MS);
    await certificate.stop();
    await waitUntil('the renewal under way ended', () => renewed === 1);
    expect(clock.pending).toBe(0);
    await certificate.stop();
  });
});
