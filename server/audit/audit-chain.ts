import { createHash } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  accessRecord,
  MAX_AUDIT_RECORD_BYTES,
  type AccessRecord,
  type AuditBatch,
} from '../../shared/protocol/audit.ts';

/** How far a spool has been stored: the number of the last record and its hash. */
export interface SpoolPosition {
  readonly sequence: number;
  /** 64 hexadecimal digits; the next record must continue it. */
  readonly hash: string;
}

/** Where every spool begins: nothing stored, thirty-two zero bytes. */
export const SPOOL_START: SpoolPosition = { sequence: 0, hash: '0'.repeat(64) };

/** A record that continues the chain, read and as it came. */
export interface CheckedRecord {
  readonly sequence: number;
  readonly hash: string;
  readonly text: string;
  readonly record: AccessRecord;
}

/**
 * The records of a batch that are not stored yet, checked; empty when all are, or when records between are missing. Throws `invalid_argument`:
 * `audit_sequence_invalid` when the numbers of the batch do not follow each other, `audit_chain_broken` when a hash does not continue the one
 * before, `audit_record_invalid` for a text that is no record.
 */
export function checkBatch(batch: AuditBatch, stored: SpoolPosition): readonly CheckedRecord[] {
  requireConsecutive(batch);
  const first = batch.records[0];
  if (first === undefined || first.sequence > stored.sequence + 1) return [];
  const last = batch.records.find((record) => record.sequence === stored.sequence);
  // The same record again must be the same record: otherwise the spool was rewritten behind what it already told.
  if (last !== undefined && last.hash !== stored.hash) throw brokenChain(stored.sequence);
  const checked: CheckedRecord[] = [];
  let previousHash = stored.hash;
  for (const { sequence, hash, record: text } of batch.records) {
    if (sequence <= stored.sequence) continue;
    if (nextHash(previousHash, text) !== hash) throw brokenChain(sequence);
    checked.push({ sequence, hash, text, record: parseRecord(sequence, text) });
    previousHash = hash;
  }
  return checked;
}

/**
 * Where the chain goes on behind a gap that the agent tells of, or undefined when the batch needs none, or tells of one that does not begin
 * at what is stored.
 */
export function findEndOfGap(batch: AuditBatch, stored: SpoolPosition): SpoolPosition | undefined {
  const { gap, records } = batch;
  const before = (records[0]?.sequence ?? 0) - 1;
  if (gap === undefined || gap.after !== stored.sequence || before <= stored.sequence) return undefined;
  return { sequence: before, hash: gap.hash };
}

/** SHA-256 over the previous hash and the exact text of the record, in hexadecimal. */
export function nextHash(previousHash: string, text: string): string {
  return createHash('sha256').update(Buffer.from(previousHash, 'hex')).update(text).digest('hex');
}

function requireConsecutive(batch: AuditBatch): void {
  const first = batch.records[0]?.sequence ?? 0;
  const isConsecutive = batch.records.every((record, i) => record.sequence === first + i);
  if (isConsecutive && first > 0) return;
  throw new PicketError(
    'invalid_argument',
    'audit_sequence_invalid',
    'The records of a batch must be numbered one after another, from 1',
  );
}

function parseRecord(sequence: number, text: string): AccessRecord {
  const isShort = Buffer.byteLength(text) <= MAX_AUDIT_RECORD_BYTES;
  const parsed = isShort ? accessRecord.safeParse(parseJson(text)) : undefined;
  if (parsed?.success === true) return parsed.data;
  const issue = parsed?.error.issues[0];
  const why = issue === undefined ? 'it is too long' : `${issue.path.join('.')}: ${issue.message}`;
  throw new PicketError(
    'invalid_argument',
    'audit_record_invalid',
    `Record ${sequence} is no access record: ${why}`,
    { details: { sequence } },
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function brokenChain(sequence: number): PicketError {
  return new PicketError(
    'invalid_argument',
    'audit_chain_broken',
    `Record ${sequence} does not continue the hash chain of what is stored`,
    { details: { sequence } },
  );
}
