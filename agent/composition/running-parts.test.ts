import { describe, expect, test } from 'bun:test';
import { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import type { IdentityManager } from '../identity/identity-manager.ts';
import type { Proxy } from '../proxy/proxy.ts';
import type { TurnedAway } from '../proxy/mesh/mesh.ts';
import { RunningParts } from './running-parts.ts';

const FACTS = {
  version: '1',
  startedAtMs: 0,
  trustDomain: parseTrustDomain('example.org'),
  dataDirectory: '/nonexistent',
  crowd: new CrowdTally<TurnedAway>({ nowMs: () => 0 }),
  hboneConfig: { isAccepted: true, peers: [] },
  isGateway: false,
};

/** An agent that has attested and heard of the server, and carries connections. */
function workingParts(keepsCapture: boolean): RunningParts {
  const parts = new RunningParts({ ...FACTS, keepsCapture });
  parts.manager = {
    credentials: {},
    sync: { current: { position: { epoch: 'e', cursor: 1 } } },
  } as unknown as IdentityManager;
  parts.proxy = {} as Proxy;
  return parts;
}

const keeper = (isIntact: boolean) => ({
  status: {
    backend: 'nftables' as const,
    isIntact,
    repairs: 0,
    isWatched: true,
    isContested: false,
    transparentPorts: { steered: [], leftAlone: [] },
  },
  stop: () => Promise.resolve(),
});

describe('RunningParts.findMissing', () => {
  test('is not satisfied before the capture rules are in place, and no more when they are gone', () => {
    const parts = workingParts(true);
    expect(parts.findMissing()).toContain('capture rules');
    parts.keeper = keeper(true);
    expect(parts.findMissing()).toBeUndefined();
    parts.keeper = keeper(false);
    expect(parts.findMissing()).toContain('capture rules');
  });

  test('asks for no rules that the agent does not keep', () => {
    expect(workingParts(false).findMissing()).toBeUndefined();
  });
});
