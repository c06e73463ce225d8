import type { AgentState } from '../../agent/admin/status.ts';
import { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';

/** An agent of example.org that has just been started and knows nothing yet, `change` aside. */
export function startingAgentState(change: Partial<AgentState> = {}): AgentState {
  return {
    version: '0.1.0',
    startedAtMs: 0,
    trustDomain: parseTrustDomain('example.org'),
    findMissing: () => 'the host has not attested yet',
    identities: () => undefined,
    server: () => ({ isConnected: false, isClockSkewed: false }),
    policy: () => undefined,
    capture: () => undefined,
    localPorts: () => [],
    transparentPorts: () => ({ steered: [], leftAlone: [] }),
    gateway: () => ({ isEnabled: false, identities: [] }),
    inspection: () => undefined,
    namespaceStatus: () => [],
    namespacesBeyond: () => new Map(),
    auditedServices: () => [],
    services: () => [],
    udp: () => undefined,
    spool: () => undefined,
    holderSearch: () => undefined,
    userIssuers: () => [],
    hbone: () => ({ isAccepted: true, callable: [], peers: 0, untrusted: [] }),
    workloadApi: () => undefined,
    quarantined: () => undefined,
    connections: () => 0,
    maxConnections: () => 0,
    crowd: new CrowdTally({ nowMs: () => 0 }),
    dataDirectory: '/nonexistent',
    workerStatus: () => [],
    workerDescriptorsRefused: () => 0,
    refresh: async () => undefined,
    predecessor: () => undefined,
    ...change,
  };
}
