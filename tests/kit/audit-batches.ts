import { createHash } from 'node:crypto';
import { parseAuditFrames } from '../../server/audit/audit-frames.ts';
import type { AccessRecord, AuditBatch, FramedBatch } from '../../shared/protocol/audit.ts';
import { testWorkloadId } from './mesh-data.ts';

/** An access record, `change` aside: `GET /` from /a to /b, allowed. */
export function testAccessRecord(change: Partial<AccessRecord> = {}): AccessRecord {
  return {
    decision_id: 'd-1',
    ts: '2026-11-24T10:00:00.000Z',
    direction: 'inbound',
    caller_spiffe_id: testWorkloadId('/a'),
    target_spiffe_id: testWorkloadId('/b'),
    source: '192.0.2.1:1000',
    destination: '192.0.2.2:80',
    protocol: 'http',
    method: 'GET',
    path: '/',
    decision: 'allow',
    reason: 'policy',
    message: 'allowed',
    policy_version: 1,
    latency_us: 1.5,
    ...change,
  };
}

/** A spool as an agent has it: texts chained by SHA-256 from thirty-two zero bytes, numbered from 1. */
export function testSpool(texts: readonly string[]): AuditBatch['records'] {
  let previous = Buffer.alloc(32);
  return texts.map((record, i) => {
    previous = createHash('sha256').update(previous).update(record).digest();
    return { sequence: i + 1, hash: previous.toString('hex'), record };
  });
}

/** The frames of records, as they stand in a spool. */
export function testFrames(records: AuditBatch['records']): Buffer {
  return Buffer.concat(
    records.flatMap(({ sequence, hash, record }) => {
      const numbers = Buffer.alloc(12);
      numbers.writeUInt32BE(Buffer.byteLength(record), 0);
      numbers.writeBigUInt64BE(BigInt(sequence), 4);
      return [numbers, Buffer.from(hash, 'hex'), Buffer.from(record)];
    }),
  );
}

/** A batch of frames with its records, as the server reads it. */
export function readFramed<T extends FramedBatch>(batch: T): T & AuditBatch {
  return { ...batch, records: parseAuditFrames(batch.frames) };
}
