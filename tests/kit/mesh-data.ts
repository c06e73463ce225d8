import { newEntry, type NewEntry } from '../../shared/protocol/registration.ts';
import { agentId } from '../../shared/spiffe/reserved-path.ts';
import { buildSpiffeId, type SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { NodeAttestation } from '../../server/agents/nodes.ts';
import { TEST_TRUST_DOMAIN } from './datastore.ts';

/** The agent of a host of that name, attested by TPM. */
export function testAgentId(name: string): SpiffeId {
  return agentId(TEST_TRUST_DOMAIN, { attestationType: 'tpm', name });
}

/** The workload at `path` of the test trust domain. */
export function testWorkloadId(path: string): SpiffeId {
  return buildSpiffeId(TEST_TRUST_DOMAIN, path);
}

/** An entry as an operator would write it: workload `path` on host `host`, user id 1000, unless `change` says otherwise. */
export function testEntry(host: string, path: string, change: Partial<NewEntry> = {}): NewEntry {
  const base = newEntry.parse({
    spiffeId: testWorkloadId(path),
    parentId: testAgentId(host),
    selectors: ['unix:uid:1000'],
  });
  return { ...base, ...change };
}

/** The attestation of a host by TPM. */
export function testAttestation(host: string, change: Partial<NodeAttestation> = {}): NodeAttestation {
  return {
    nodeId: testAgentId(host),
    attestationType: 'tpm',
    certificate: { serial: '01', notAfterMs: Date.parse('2026-11-25T10:00:00.000Z') },
    selectors: [],
    canReattest: true,
    agentVersion: '0.1.0',
    declaredAddresses: [],
    claimedAddresses: [],
    ...change,
  };
}
