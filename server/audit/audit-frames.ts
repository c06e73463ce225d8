import { PicketError } from '../../shared/errors/errors.ts';
import { MAX_AUDIT_BATCH, MAX_AUDIT_FRAMES_BYTES, type AuditBatch } from '../../shared/protocol/audit.ts';
import { endOfFrame, FRAME_HEAD_BYTES, HASH_AT, sequenceOfFrame } from '../../shared/protocol/audit-frame.ts';

/**
 * Takes apart the frames of a batch, which the agent sends as they stand in its spool. Only where each ends is judged here, and that there are not too many: numbers, hashes and texts are
 * `checkBatch`'s, as they are for records that come as JSON. Throws `invalid_argument`, reason `audit_frames_invalid`, for bytes that are not whole frames from the first to the last.
 */
export function parseAuditFrames(body: Uint8Array): AuditBatch['records'] {
  if (body.length > MAX_AUDIT_FRAMES_BYTES) throw invalid(`there are more than ${MAX_AUDIT_FRAMES_BYTES}`);
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const records: AuditBatch['records'] = [];
  for (let offset = 0; offset < bytes.length;) {
    if (records.length === MAX_AUDIT_BATCH) throw invalid(`there are more than ${MAX_AUDIT_BATCH} records`);
    const end = endOfFrame(bytes, offset);
    if (end === undefined) throw invalid(`no whole frame stands at byte ${offset} of ${bytes.length}`);
    records.push(recordAt(bytes, offset, end));
    offset = end;
  }
  if (records.length === 0) throw invalid('there are none');
  return records;
}

function recordAt(bytes: Buffer, offset: number, end: number): AuditBatch['records'][number] {
  const sequence = sequenceOfFrame(bytes, offset);
  if (!Number.isSafeInteger(sequence)) throw invalid(`the number at byte ${offset} is too large`);
  const textAt = offset + FRAME_HEAD_BYTES;
  return {
    sequence,
    hash: bytes.toString('hex', offset + HASH_AT, textAt),
    // Bytes that are no UTF-8 give another text, whose hash is another one.
    record: bytes.toString('utf8', textAt, end),
  };
}

function invalid(why: string): PicketError {
  return new PicketError(
    'invalid_argument',
    'audit_frames_invalid',
    `The bytes are no frames of records: ${why}`,
  );
}
