import { describe, expect, test } from 'bun:test';
import { buildStatus } from '../../agent/admin/status.ts';
import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { startingAgentState } from '../../tests/kit/agent-state.ts';
import { agentIsDown, checkAgent } from './agent-checks.ts';
import type { Check } from './check.ts';

const NOW_MS = Date.parse('2026-11-24T10:00:00.000Z');
const HOUR_MS = 3_600_000;
const GIB = 1024 ** 3;

const at = (fromNowMs: number): string => new Date(NOW_MS + fromNowMs).toISOString();

/** A certificate that lives for a day and has so much left. */
const life = (leftMs: number): { readonly notBefore: string; readonly notAfter: string } => ({
  notBefore: at(leftMs - 24 * HOUR_MS - 300_000),
  notAfter: at(leftMs),
});

const spiffeId = parseSpiffeId('spiffe://example.org/web');

const HEALTHY: StatusAnswer = {
  ...buildStatus(startingAgentState()),
  missing: undefined,
  agent: { spiffeId: parseSpiffeId('spiffe://example.org/picket/agent/tpm/desk'), ...life(13 * HOUR_MS) },
  identities: [{ spiffeId, entryId: '1', ...life(12 * HOUR_MS) }],
  server: { isConnected: true, lastHeardAt: at(-4000), clockSkewMs: 800, isClockSkewed: false },
  policy: { version: 3, sequence: 5 },
  capture: {
    mode: 'nftables',
    isIntact: true,
    repairs: 0,
    isWatched: true,
    isContested: false,
    localPorts: [80],
    transparentPorts: [],
    transparentLeftAlone: [],
  },
  audit: { depth: 3, bytes: 1000, refused: 0, isHeldBack: false },
  connections: 7,
  maxConnections: 100,
  turnedAway: { count: 7, lastAt: at(-HOUR_MS) },
  descriptors: { open: 50, limit: 1064, reserved: 64, refused: 0 },
  dataDirectory: '/var/lib/picket/agent',
  disk: { freeBytes: 50 * GIB, totalBytes: 100 * GIB },
};

function checkOf(name: string, change: Partial<StatusAnswer>): Check {
  const found = checkAgent({ ...HEALTHY, ...change }, NOW_MS).find((check) => check.name === name);
  if (found === undefined) throw new Error(`There is no check ${name}`);
  return found;
}

const server = (change: Partial<StatusAnswer['server']>): Partial<StatusAnswer> => ({
  server: { ...HEALTHY.server, ...change },
});
const quarantine = (change: Partial<StatusAnswer['quarantine']>): Partial<StatusAnswer> => ({
  quarantine: { inForce: 1, isThisHost: false, workloads: [], ...change },
});
const few = (change: Partial<StatusAnswer['descriptors']>): Partial<StatusAnswer> => ({
  descriptors: { ...HEALTHY.descriptors, ...change },
});
const capture = (change: Partial<StatusAnswer['capture']>): Partial<StatusAnswer> => ({
  capture: { ...HEALTHY.capture, ...change },
});
const inspection = (leftMs: number): Partial<StatusAnswer> => ({
  inspection: { authority: 'CN=Inspection', notAfter: at(leftMs) },
});
const namespaces = (change: Partial<StatusAnswer['namespaces'][number]>): Partial<StatusAnswer> => ({
  namespaces: [
    {
      name: 'pod',
      label: 'pod',
      isFound: false,
      addresses: [],
      state: 'absent',
      isIntact: false,
      repairs: 0,
      ...change,
    },
  ],
});
const audit = (change: Partial<StatusAnswer['audit']>): Partial<StatusAnswer> => ({
  audit: { ...HEALTHY.audit, ...change },
});

const EJECTED = {
  address: '10.0.0.2',
  port: 80,
  distance: 'zone',
  connections: 0,
  ejectedSeconds: 4,
  lastFailure: 'ECONNREFUSED',
} as const;
const WORKER = { pid: 1, isReady: true, restarts: 0, connections: 0, policySequence: 5 };
const workers = (change: Partial<StatusAnswer['workers'][number]>): Partial<StatusAnswer> => ({
  workers: [WORKER, { ...WORKER, ...change }],
});

/** What is wrong, the check that says so, how bad it is, and a part of what is found. */
const FAULTS: readonly (readonly [name: string, Partial<StatusAnswer>, Check['outcome'], string])[] = [
  [
    'hbone',
    { hbone: { isAccepted: true, callable: [spiffeId], peers: 2, untrusted: [spiffeId] } },
    'warn',
    'no trust bundle for 1 of 2 peers',
  ],
  ['workers', workers({ pid: null, isReady: false }), 'fail', '1 of 2 do not run'],
  ['workers', workers({ policySequence: 4 }), 'warn', '1 decide by another policy'],
  ['workers', workers({ restarts: 3 }), 'warn', 'ended 3 times'],
  ['ready', { missing: 'the agent is starting' }, 'fail', 'the agent is starting'],
  ['certificate', { agent: null }, 'fail', 'none'],
  ['certificate', { agent: { spiffeId, ...life(-1) } }, 'fail', 'ended'],
  [
    'certificate',
    { agent: { spiffeId, ...life(5 * HOUR_MS) } },
    'warn',
    '5 h left: it should have been renewed',
  ],
  [
    'workloads',
    { identities: [{ spiffeId, entryId: '1', ...life(HOUR_MS) }, ...HEALTHY.identities] },
    'warn',
    '1 of 2 should have been renewed: spiffe://example.org/web',
  ],
  [
    'server',
    server({ isConnected: false, failure: 'No server answers' }),
    'fail',
    '4 s ago: No server answers',
  ],
  ['server', server({ isConnected: false, lastHeardAt: undefined }), 'fail', 'never heard'],
  ['server', server({ refusal: 'Node "x" is banned' }), 'fail', 'turned away: Node "x" is banned'],
  ['server', server({ failure: 'The server did not answer in time' }), 'warn', 'did not answer'],
  ['clock', server({ clockSkewMs: undefined }), 'warn', 'not compared'],
  ['clock', server({ clockSkewMs: 61_000 }), 'warn', '61 s ahead'],
  ['clock', server({ clockSkewMs: -3_600_000, isClockSkewed: true }), 'fail', '3600 s behind'],
  ['inspection', inspection(13 * 24 * HOUR_MS), 'warn', 'the authority ends in'],
  ['inspection', inspection(-HOUR_MS), 'fail', 'what is to be inspected is refused'],
  ['quarantine', quarantine({ isThisHost: true }), 'fail', 'nothing on it calls or is called'],
  [
    'quarantine',
    quarantine({ workloads: [spiffeId] }),
    'warn',
    '1 workloads of this host are in quarantine: spiffe',
  ],
  ['policy', { policy: null }, 'fail', 'everything is denied'],
  ['enforcement', { auditedServices: [spiffeId] }, 'warn', 'in audit mode'],
  ['services', { services: [{ name: 'web', spiffeId, members: [] }] }, 'warn', 'no member: web'],
  [
    'services',
    { services: [{ name: 'web', spiffeId, members: [EJECTED] }] },
    'warn',
    '1 members are passed over: web at 10.0.0.2 port 80: ECONNREFUSED',
  ],
  ['capture', capture({ mode: 'off' }), 'warn', 'does not keep'],
  ['capture', capture({ isIntact: false }), 'fail', 'not the agent’s'],
  ['capture', capture({ repairs: 2 }), 'warn', '2 times'],
  ['capture', capture({ repairs: 2, changedBy: 'nft (pid 7)' }), 'warn', 'nft (pid 7)'],
  ['capture', capture({ repairs: 20, isContested: true }), 'fail', 'again and again'],
  ['capture', capture({ isWatched: false }), 'warn', 'every 5 s'],
  ['namespaces', namespaces({ state: 'failed', why: 'EADDRINUSE' }), 'fail', 'pod: EADDRINUSE'],
  ['namespaces', { namespacesBeyond: { pods: 3 } }, 'fail', 'nothing of the others passes: 3 of pods'],
  ['namespaces', namespaces({ state: 'captured', isIntact: false }), 'warn', 'changed the rules within: pod'],
  ['namespaces', namespaces({ state: 'captured', isIntact: true, repairs: 3 }), 'warn', 'within: pod'],
  ['spool', audit({ refusing: 'disk_full', refused: 4 }), 'fail', 'requests are refused: disk_full'],
  ['spool', audit({ refused: 4 }), 'warn', '4 records were refused'],
  ['spool', audit({ isHeldBack: true, refused: 4 }), 'warn', 'takes fewer records of this host'],
  ['spool', audit({ depth: 10_001 }), 'warn', '10001 records wait'],
  ['connections', { connections: 75 }, 'warn', '75 of 100'],
  ['connections', { connections: 95 }, 'fail', '95 of 100'],
  ['descriptors', few({ open: 750 }), 'warn', '750 of 1000'],
  ['descriptors', few({ refused: 3 }), 'warn', '3 connections were refused'],
  ['descriptors', few({ open: 1000 }), 'fail', '1000 of 1000'],
  ['flood', { turnedAway: { count: 7, lastAt: at(-4000) } }, 'warn', '7 connections were turned away'],
  ['disk', { disk: { freeBytes: 4 * GIB, totalBytes: 100 * GIB } }, 'warn', '4.0 GiB of 100.0 GiB'],
  ['disk', { disk: { freeBytes: 4096, totalBytes: 100 * GIB } }, 'fail', '4.0 KiB'],
  ['disk', { disk: undefined }, 'warn', 'cannot tell'],
];

describe('checkAgent()', () => {
  test('checkAgent() says of a host that has not attested what it waits for, and not what comes after', () => {
    const pending = server({ isConnected: false, lastHeardAt: undefined, failure: 'ek_not_approved: wait' });
    expect(checkOf('server', { ...pending, agent: null }).advice).toContain('picket node tpm approve');
    expect(checkOf('policy', { policy: null, agent: null }).advice).toContain('attest first');
    const lost = server({ isConnected: false, failure: 'server_unreachable: No server answers' });
    expect(checkOf('server', lost).advice).toContain('goes on passing');
    expect(checkOf('server', { ...lost, agent: null }).advice).not.toContain('passing');
  });

  test('checkAgent() finds nothing wrong with an agent that is well', () => {
    const checks = checkAgent(HEALTHY, NOW_MS);
    expect(checks.filter(({ outcome }) => outcome !== 'ok')).toEqual([]);
    expect(checks.map(({ advice }) => advice)).toEqual(checks.map(() => undefined));
    expect(checkOf('server', {}).found).toContain('4 s ago');
  });

  test.each(FAULTS.map(([name, change, outcome, found]) => ({ name, change, outcome, found })))(
    'checkAgent() tells by $name ($outcome: $found), and what to do',
    ({ name, change, outcome, found }) => {
      const check = checkOf(name, change);
      expect(check.outcome).toBe(outcome);
      expect(check.found).toContain(found);
      expect(check.advice).not.toBeEmpty();
      const others = checkAgent({ ...HEALTHY, ...change }, NOW_MS).filter((each) => each.name !== name);
      expect(others.filter((each) => each.outcome !== 'ok')).toEqual([]);
    },
  );

  test('checkAgent() knows no limit of descriptors where there is none', () => {
    expect(checkOf('descriptors', few({ limit: null })).outcome).toBe('ok');
  });
});

describe('agentIsDown()', () => {
  test('agentIsDown() says what becomes of traffic', () => {
    expect(agentIsDown('Nothing answers.', true).found).toBe('Nothing answers. Traffic is refused');
    expect(agentIsDown('Nothing answers.', false).found).toContain('WITHOUT Picket');
  });
});
