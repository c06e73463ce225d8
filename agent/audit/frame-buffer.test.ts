import { describe, expect, test } from 'bun:test';
import { MAX_AUDIT_RECORD_BYTES } from '../../shared/protocol/audit.ts';
import { FrameBuffer } from './frame-buffer.ts';
import { chainHash, decodeFrame } from './spool-frame.ts';

const before = Buffer.alloc(32, 7);

describe('FrameBuffer.add()', () => {
  test('lays out frames that follow each other, chained', () => {
    const frames = new FrameBuffer();
    const texts = ['{"a":1}', '{"ä":"€𝄞"}', '{}'];
    let hash: Uint8Array = before;
    let end = 0;
    for (const [index, text] of texts.entries()) {
      expect(frames.add(2 ** 33 + index, hash, text)).toBe(true);
      const frame = decodeFrame(frames.bytes, end, 2 ** 33 + index)!;
      expect(frame.text).toBe(text);
      expect(chainHash(hash, Buffer.from(text)).equals(frame.hash)).toBe(true);
      expect(Buffer.from(frames.lastHash).equals(frame.hash)).toBe(true);
      hash = frame.hash;
      end = frame.end;
    }
    expect([frames.count, frames.length]).toEqual([3, end]);
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
