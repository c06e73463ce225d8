import type { AccessRecord } from '../../shared/protocol/audit.ts';

/** A record for tests that tells by its id and length which one it is. */
export function sampleRecord(index: number): AccessRecord {
  return {
    decision_id: `decision-${index}`,
    ts: '2026-01-01T00:00:00.000Z',
    direction: 'inbound',
    caller_spiffe_id: null,
    target_spiffe_id: null,
    source: '10.0.0.1:40000',
    destination: '10.0.0.2:80',
    protocol: 'http',
    method: 'GET',
    path: `/${'p'.repeat(index % 97)}`,
    decision: 'allow',
    reason: 'policy_allow',
    message: 'the policy allows it',
    policy_version: 1,
    latency_us: 1.5,
  };
}
