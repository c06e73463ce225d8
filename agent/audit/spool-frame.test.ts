import { createHash } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import { MAX_AUDIT_RECORD_BYTES, type AccessRecord } from '../../shared/protocol/audit.ts';
import { FrameBuffer } from './frame-buffer.ts';
import {
  chainHash,
  decodeSegmentHead,
  encodeRecord,
  encodeSegmentHead,
  findFrameEnd,
  scanSegment,
  type SegmentHead,
} from './spool-frame.ts';

const zeros = new Uint8Array(32);
const head: SegmentHead = { epoch: 'ab'.repeat(16), firstSequence: 7, previousHash: Buffer.alloc(32, 3) };

function frameOf(sequence: number, text: string): Buffer {
  const frames = new FrameBuffer();
  frames.add(sequence, zeros, text);
  return Buffer.from(frames.bytes);
}

function segmentOf(texts: readonly string[]): Buffer {
  const frames = new FrameBuffer();
  for (const text of texts)
    frames.add(
      head.firstSequence + frames.count,
      frames.count === 0 ? head.previousHash : frames.lastHash,
      text,
    );
  return Buffer.concat([encodeSegmentHead(head), frames.bytes]);
}

const record: AccessRecord = {
  decision_id: 'd1',
  ts: '2026-01-01T00:00:00.000Z',
  direction: 'inbound',
  caller_spiffe_id: null,
  target_spiffe_id: null,
  source: '10.0.0.1:1',
  destination: '10.0.0.2:80',
  protocol: 'http',
  method: 'GET',
  path: '/',
  decision: 'deny',
  reason: 'policy_deny',
  message: 'no',
  policy_version: 1,
  latency_us: 1,
};

describe('chainHash()', () => {
  test('is SHA-256 over 32 zero bytes and the text at the start of an epoch', () => {
    const expected = createHash('sha256').update(Buffer.alloc(32)).update('{}').digest('hex');
    expect(chainHash(zeros, Buffer.from('{}')).toString('hex')).toBe(expected);
  });
});

describe('decodeSegmentHead()', () => {
  test('mirrors encodeSegmentHead()', () => {
    const decoded = decodeSegmentHead(encodeSegmentHead(head));
    expect(decoded?.epoch).toBe(head.epoch);
    expect(decoded?.firstSequence).toBe(7);
    expect(Buffer.from(decoded!.previousHash)).toEqual(Buffer.alloc(32, 3));
  });

  test('takes neither a short head, nor another magic, nor a sequence of 0 or beyond 2^53', () => {
    const good = encodeSegmentHead(head);
    for (let length = 0; length < good.length; length++)
      expect(decodeSegmentHead(good.subarray(0, length))).toBeUndefined();
    for (const [offset, bytes] of [
      [0, Buffer.from('X')],
      [24, Buffer.alloc(8)],
      [24, Buffer.alloc(8, 0xff)],
    ] as const) {
      const bad = Buffer.from(good);
      bytes.copy(bad, offset);
      expect(decodeSegmentHead(bad)).toBeUndefined();
    }
  });
});

describe('findFrameEnd()', () => {
  test('is where a frame of FrameBuffer.add() ends, and nowhere as long as a byte of it is missing', () => {
    const bytes = frameOf(9, '{"ä":1}');
    expect(findFrameEnd(bytes, 0, 9)).toBe(bytes.length);
    for (let length = 0; length < bytes.length; length++)
      expect(findFrameEnd(bytes.subarray(0, length), 0, 9)).toBeUndefined();
  });

  test('takes no other sequence and no length of 0 or beyond the limit', () => {
    const bytes = Buffer.concat([frameOf(9, '{}'), Buffer.alloc(2 * MAX_AUDIT_RECORD_BYTES)]);
    for (const sequence of [8, 10, 9 + 2 ** 32]) expect(findFrameEnd(bytes, 0, sequence)).toBeUndefined();
    for (const length of [0, MAX_AUDIT_RECORD_BYTES + 1, 0xffff_ffff]) {
      bytes.writeUInt32BE(length, 0);
      expect(findFrameEnd(bytes, 0, 9)).toBeUndefined();
    }
  });
});

describe('scanSegment()', () => {
  const whole = segmentOf(['{"a":1}', '{"b":2}', '{"c":3}']);
  const ends = [64, 64 + 51, 64 + 102, 64 + 153];

  test('cut at any byte it keeps exactly the whole frames before', () => {
    for (let length = 64; length <= whole.length; length++) {
      const { goodBytes, lastSequence } = scanSegment(whole.subarray(0, length), head);
      const frames = ends.filter((end) => end <= length).length - 1;
      expect([goodBytes, lastSequence]).toEqual([ends[frames]!, 6 + frames]);
    }
  });

  test('changed at any byte it keeps no frame from there on', () => {
    for (let index = 64; index < whole.length; index++) {
      const bad = Buffer.from(whole);
      bad[index]! ^= 0x40;
      expect(scanSegment(bad, head).goodBytes).toBeLessThanOrEqual(index);
    }
  });
});

describe('encodeRecord()', () => {
  test('is the JSON text of the record', () => {
    expect(JSON.parse(encodeRecord(record))).toEqual(record);
  });

  test('cuts a path that would not fit', () => {
    const long = encodeRecord({ ...record, path: `/${'\u0001'.repeat(8000)}` });
    expect(JSON.parse(long)).toHaveProperty('path.length', 2049);
  });
});
