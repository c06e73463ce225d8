import {
  checkBatch,
  findEndOfGap,
  nextHash,
  SPOOL_START,
  type CheckedRecord,
  type SpoolPosition,
} from '../../server/audit/audit-chain.ts';
import type { AuditBatch } from '../../shared/protocol/audit.ts';
import { testAccessRecord, testSpool } from '../kit/audit-batches.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat } from './target.ts';

/** What a spool sends at first. */
export const FIRST_RECORDS = testSpool(Array.from({ length: 3 }, () => JSON.stringify(testAccessRecord())));
export const EPOCH = '0123456789abcdef0123456789abcdef';
/** The first of them is stored, the second is held by nobody. */
export const GAP = { after: 1, hash: FIRST_RECORDS[1]?.hash ?? '' };

const STORED: readonly SpoolPosition[] = [
  SPOOL_START,
  ...FIRST_RECORDS.map(({ sequence, hash }) => ({ sequence, hash })),
];

/** The way of a batch behind each of what may be stored. Throws `BrokenInvariant` unless what is taken continues that, in numbers and hashes, text by text. */
export function wayOfBatch(
  batch: AuditBatch,
  onTaken: (record: CheckedRecord) => void = () => undefined,
): string {
  return STORED.map((stored) => wayOf(batch, stored, onTaken)).join(' | ');
}

function wayOf(batch: AuditBatch, stored: SpoolPosition, onTaken: (record: CheckedRecord) => void): string {
  const { value: taken, refusal } = attempt(() => checkBatch(batch, stored));
  if (taken === undefined) return outcomeOfRefusal(refusal);
  let { sequence, hash } = stored;
  for (const record of taken) {
    requireSame(record.sequence, sequence + 1, 'the next number');
    requireSame(record.hash, nextHash(hash, record.text), 'the next hash');
    onTaken(record);
    ({ sequence, hash } = record);
  }
  const end = findEndOfGap(batch, stored);
  requireThat(
    end === undefined || (taken.length === 0 && end.sequence > stored.sequence),
    'a gap where there is none',
  );
  return `${taken.length} taken, gap ${end !== undefined}`;
}
