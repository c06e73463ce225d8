import { describe, expect, test } from 'bun:test';
import { parseAuditFrames } from '../../server/audit/audit-frames.ts';
import { MAX_AUDIT_RECORD_BYTES } from '../../shared/protocol/audit.ts';
import { testFrames } from '../../tests/kit/audit-batches.ts';
import { FrameBuffer } from './frame-buffer.ts';
import { chainHash } from './spool-frame.ts';

const before = Buffer.alloc(32, 7);

describe('FrameBuffer.add()', () => {
  test('lays out frames that follow each other, chained', () => {
    const frames = new FrameBuffer();
    const texts = ['{"a":1}', '{"ä":"€𝄞"}', '{}'];
    let hash: Uint8Array = before;
    const expected = texts.map((record, index) => {
      expect(frames.add(2 ** 33 + index, hash, record)).toBe(true);
      hash = chainHash(hash, Buffer.from(record));
      expect(Buffer.from(frames.lastHash)).toEqual(Buffer.from(hash));
      return { sequence: 2 ** 33 + index, hash: Buffer.from(hash).toString('hex'), record };
    });
    expect(parseAuditFrames(frames.bytes)).toEqual(expected);
    expect([frames.count, frames.length]).toEqual([3, testFrames(expected).length]);
    expect(frames.bytes).toEqual(testFrames(expected));
    frames.clear();
    expect([frames.count, frames.length, frames.bytes.length]).toEqual([0, 0, 0]);
  });

  test('takes the longest record that there may be behind all that comes before it is full, and no longer one', () => {
    const frames = new FrameBuffer();
    const longest = '€'.repeat(Math.floor(MAX_AUDIT_RECORD_BYTES / 3));
    while (!frames.isFull) expect(frames.add(frames.count + 1, before, longest)).toBe(true);
    frames.clear();
    for (const text of ['x'.repeat(MAX_AUDIT_RECORD_BYTES + 1), '€'.repeat(MAX_AUDIT_RECORD_BYTES)]) {
      expect(frames.add(1, before, text)).toBe(false);
      expect([frames.count, frames.length]).toEqual([0, 0]);
    }
    expect(frames.add(1, before, 'x'.repeat(MAX_AUDIT_RECORD_BYTES))).toBe(true);
  });
});
