import { createHash } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import {
  auditBatch,
  MAX_AUDIT_BATCH,
  MAX_AUDIT_FRAMES_BYTES,
  MAX_AUDIT_RECORD_BYTES,
} from '../../shared/protocol/audit.ts';
import { testAccessRecord, testFrames, testSpool } from '../../tests/kit/audit-batches.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { checkBatch, SPOOL_START } from './audit-chain.ts';
import { parseAuditFrames } from './audit-frames.ts';

const epoch = '0'.repeat(32);
const records = testSpool([
  JSON.stringify(testAccessRecord({ message: 'ä€𝄞' })),
  '\u{feff}{}',
  JSON.stringify(testAccessRecord({ path: '/\u{fffd}' })),
]);
const frames = testFrames(records);
/** Where each frame begins, and where the last ends. */
const borders = records.map((_, i) => testFrames(records.slice(0, i)).length).concat(frames.length);

describe('parseAuditFrames()', () => {
  test('gives the records that were written, of a view into other bytes too', () => {
    expect(parseAuditFrames(frames)).toEqual(records);
    const around = Buffer.concat([Buffer.alloc(3, 0xff), frames, Buffer.alloc(3, 0xff)]);
    expect(parseAuditFrames(new Uint8Array(around.buffer, around.byteOffset + 3, frames.length))).toEqual(
      records,
    );
  });

  test('reads what a batch as JSON may have, and no more: number, count, length', () => {
    const longest = testSpool(['x'.repeat(MAX_AUDIT_RECORD_BYTES)]);
    const last = { ...records[0]!, sequence: Number.MAX_SAFE_INTEGER };
    const most = testSpool(Array.from({ length: MAX_AUDIT_BATCH }, () => '{}'));
    for (const allowed of [longest, [last], most])
      expect(parseAuditFrames(testFrames(allowed))).toEqual(
        auditBatch.parse({ epoch, records: allowed }).records,
      );
    const tooMany = testSpool(Array.from({ length: MAX_AUDIT_BATCH + 1 }, () => '{}'));
    const tooLong = testSpool(['x'.repeat(MAX_AUDIT_RECORD_BYTES + 1)]);
    const tooHigh = [{ ...records[0]!, sequence: Number.MAX_SAFE_INTEGER + 1 }];
    const empty = [{ ...records[0]!, record: '' }];
    for (const refused of [tooMany, tooLong, tooHigh, empty, []])
      expect(reasonOf(() => parseAuditFrames(testFrames(refused)))).toBe('audit_frames_invalid');
    const tooLarge = testFrames(testSpool(Array.from({ length: 100 }, () => 'x'.repeat(16_000))));
    expect(tooLarge.length).toBeGreaterThan(MAX_AUDIT_FRAMES_BYTES);
    expect(reasonOf(() => parseAuditFrames(tooLarge))).toBe('audit_frames_invalid');
  });

  test('cut at any byte that is no border, it is refused', () => {
    for (let length = 0; length <= frames.length; length++) {
      const count = borders.indexOf(length);
      const parse = (): unknown => parseAuditFrames(frames.subarray(0, length));
      if (count > 0) expect(parse()).toEqual(records.slice(0, count));
      else expect(reasonOf(parse)).toBe('audit_frames_invalid');
    }
  });

  test('whatever length one frame claims, what it says is refused before or by the chain', () => {
    const spool = testSpool(
      [1, 2, 3].map((i) => JSON.stringify(testAccessRecord({ decision_id: `d-${i}` }))),
    );
    const whole = testFrames(spool);
    expect(checkBatch({ epoch, records: parseAuditFrames(whole) }, SPOOL_START)).toHaveLength(3);
    const starts = spool.map((_, i) => testFrames(spool.slice(0, i)).length);
    const lengths = Array.from({ length: whole.length + 50 }, (_, i) => i);
    for (const start of starts)
      for (const length of [...lengths, MAX_AUDIT_RECORD_BYTES, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        if (length === whole.readUInt32BE(start)) continue;
        const lying = Buffer.from(whole);
        lying.writeUInt32BE(length, start);
        const reason =
          reasonOf(() => checkBatch({ epoch, records: parseAuditFrames(lying) }, SPOOL_START)) ?? 'taken';
        expect(['audit_frames_invalid', 'audit_chain_broken', 'audit_sequence_invalid']).toContain(reason);
      }
  });

  test('bytes that are no UTF-8 break the chain, though it covers them', () => {
    const text = Buffer.from(JSON.stringify(testAccessRecord({ path: '/é' })));
    const at = text.indexOf(0xc3);
    for (const wrong of [0xff, 0x28, 0xed]) {
      const bad = Buffer.from(text);
      bad[at] = wrong;
      const hash = createHash('sha256').update(Buffer.alloc(32)).update(bad).digest('hex');
      const frame = testFrames([{ sequence: 1, hash, record: text.toString() }]);
      bad.copy(frame, frame.length - bad.length);
      const batch = { epoch, records: parseAuditFrames(frame) };
      expect(reasonOf(() => checkBatch(batch, SPOOL_START))).toBe('audit_chain_broken');
    }
  });
});
