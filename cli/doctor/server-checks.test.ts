import { describe, expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { testAgentId } from '../../tests/kit/mesh-data.ts';
import type { CertificateSummary } from '../certificate-summary.ts';
import { checkAuthority, checkServerHealth, type Health } from './server-checks.ts';

const NOW_MS = Date.parse('2026-11-24T10:00:00.000Z');
const DAY_MS = 86_400_000;

const HEALTHY: Health = {
  status: 'ok',
  version: '0.1.0',
  trustDomain: 'example.org',
  datastore: 'postgresql',
  agentsConnected: 2,
  intermediateNotAfter: new Date(NOW_MS + 90 * DAY_MS).toISOString(),
  changeSequence: 7,
  clockJumpMs: 3,
  hasClockJumped: false,
  turnedAway: { count: 3, lastAt: new Date(NOW_MS - DAY_MS).toISOString() },
  heldBack: { count: 0, hosts: [] },
};

const certificate = (leftMs: number, isRoot = false): CertificateSummary => ({
  file: 'intermediate.pem',
  uri: 'spiffe://example.org',
  subject: 'CN=Picket intermediate',
  isRoot,
  notAfter: new Date(NOW_MS + leftMs).toISOString(),
  keySha256: '',
});

describe('checkServerHealth()', () => {
  test('checkServerHealth() tells a server that is well, one without its database, and none', () => {
    const outcomes = (health: Health | PicketError): string[] =>
      checkServerHealth(health, NOW_MS).map(({ name, outcome }) => `${name} ${outcome}`);
    expect(outcomes(HEALTHY)).toEqual(['running ok', 'database ok', 'clock ok', 'flood ok', 'records ok']);
    const jumped = { ...HEALTHY, clockJumpMs: -3_600_000, hasClockJumped: true };
    expect(outcomes(jumped)).toEqual(['running ok', 'database ok', 'clock warn', 'flood ok', 'records ok']);
    const flooded = { ...HEALTHY, turnedAway: { count: 3, lastAt: new Date(NOW_MS - 5000).toISOString() } };
    expect(outcomes(flooded)).toEqual(['running ok', 'database ok', 'clock ok', 'flood warn', 'records ok']);
    expect(checkServerHealth(flooded, NOW_MS)[3]?.found).toContain('3 connections were turned away');
    expect(checkServerHealth(jumped, NOW_MS)[2]?.found).toContain('3600 s behind');
    const heldBack = { count: 12, hosts: [{ nodeId: testAgentId('store'), why: 'denials' as const }] };
    const held = checkServerHealth({ ...HEALTHY, heldBack }, NOW_MS)[4];
    expect(held?.outcome).toBe('warn');
    expect(held?.found).toMatch(/^12 hosts .*store \(denials\)$/);
    for (const reason of ['database_unavailable', 'database_full'])
      expect(outcomes(new PicketError('unavailable', reason, 'No'))).toEqual(['running ok', 'database fail']);
    expect(outcomes(new PicketError('unavailable', 'server_unreachable', 'No'))).toEqual(['running fail']);
  });
});

describe('checkAuthority()', () => {
  test.each([
    [90 * DAY_MS, 'ok', '90 d left'],
    [29 * DAY_MS, 'warn', '29 d left'],
    [-1, 'fail', 'ended'],
  ] as const)('checkAuthority() judges a certificate with %i ms left: %s', (leftMs, outcome, found) => {
    const [check] = checkAuthority([certificate(leftMs)], NOW_MS);
    expect(check?.outcome).toBe(outcome);
    expect(check?.found).toContain(found);
  });

  test('checkAuthority() does not send people to renew a root', () => {
    const [intermediate, root] = checkAuthority([certificate(DAY_MS), certificate(DAY_MS, true)], NOW_MS);
    expect(intermediate?.advice).toContain('picket ca renew');
    expect(root?.advice).not.toContain('picket ca renew');
  });

  test('checkAuthority() fails without an authority', () => {
    const [check] = checkAuthority(new PicketError('not_found', 'ca_missing', 'There is none'), NOW_MS);
    expect([check?.outcome, check?.found]).toEqual(['fail', 'There is none']);
  });
});
