import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FRAME,
  MAX_31_BITS,
  readFrameHeader,
  type FrameHeader,
} from './http2-frame.ts';
import { FrameReader, type FrameFate, type FrameSink } from './http2-frame-reader.ts';

const MAX_WHOLE = 100;
const payload = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);

/** Passes DATA, drops PRIORITY, wants everything else whole; writes down what it was told. */
class Notes implements FrameSink {
  readonly shown: number[] = [];
  readonly whole: string[] = [];
  readonly passed: Buffer[] = [];
  readonly reader = new FrameReader(this, MAX_WHOLE);
  hasWaiting = false;
  fate: FrameFate | undefined;
  /** What had passed at each boundary. */
  readonly boundaries: number[] = [];
  onShown = (): void => undefined;

  onHeader({ type }: FrameHeader): FrameFate {
    this.shown.push(type);
    this.onShown();
    if (this.fate !== undefined) return this.fate;
    if (type === FRAME.data) return 'pass';
    return type === FRAME.priority ? 'drop' : 'whole';
  }

  onFrame(header: FrameHeader, bytes: Buffer, { start, end }: { start: number; end: number }): void {
    this.whole.push(`${header.type} ${header.flags} ${header.streamId} ${bytes.toString('hex', start, end)}`);
  }

  onPass(bytes: Buffer, start: number, end: number): void {
    this.passed.push(Buffer.from(bytes.subarray(start, end)));
  }

  onBoundary(): void {
    this.boundaries.push(Buffer.concat(this.passed).length);
    this.hasWaiting = false;
  }
}

const DATA = encodeFrame(FRAME.data, 1, { payload: payload(30, 7) });
const EMPTY = encodeFrame(FRAME.data, 1, { flags: 1 });
const STREAM = Buffer.concat([
  DATA,
  EMPTY,
  encodeFrame(FRAME.priority, 3, { payload: payload(5, 1) }),
  encodeFrame(FRAME.headers, 5, { flags: 4, payload: payload(3, 0xab) }),
  DATA,
  encodeWindowUpdate(0, 0x0102_0304),
]);

describe('FrameReader', () => {
  test('passes runs of frames as they came, and gives whole ones', () => {
    const notes = new Notes();
    notes.reader.take(STREAM);
    expect(Buffer.concat(notes.passed).equals(Buffer.concat([DATA, EMPTY, DATA]))).toBe(true);
    expect(notes.passed).toHaveLength(2);
    expect(notes.whole).toEqual(['1 4 5 ababab', '8 0 0 01020304']);
    expect(notes.shown).toEqual([0, 0, 2, 1, 0, 8]);
  });

  test('does the same with every cut, and byte by byte, and shows each header once', () => {
    const pieces = [
      ...STREAM.keys().map((cut) => [STREAM.subarray(0, cut), STREAM.subarray(cut)]),
      [...STREAM].map((byte) => Buffer.of(byte)),
    ];
    for (const cut of pieces) {
      const notes = new Notes();
      for (const piece of cut) notes.reader.take(piece);
      expect(Buffer.concat(notes.passed).equals(Buffer.concat([DATA, EMPTY, DATA]))).toBe(true);
      expect(notes.whole).toEqual(['1 4 5 ababab', '8 0 0 01020304']);
      expect(notes.shown).toEqual([0, 0, 2, 1, 0, 8]);
    }
  });

  test('refuses a whole frame beyond its limit by its header alone, and lets any length pass', () => {
    const notes = new Notes();
    const long = encodeFrame(FRAME.headers, 1, { payload: payload(MAX_WHOLE + 1, 0) });
    expect(reasonOf(() => notes.reader.take(Buffer.from(long.subarray(0, 9))))).toBe(
      'http2_frame_size_error',
    );
    const other = new Notes();
    other.reader.take(Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 7]));
    expect([other.passed[0]?.length, other.reader.isWithinPassing]).toEqual([10, true]);
  });

  test('reads nothing while it is held, and shows the held header again', () => {
    const notes = new Notes();
    notes.fate = 'hold';
    notes.reader.take(Buffer.from(DATA));
    notes.reader.take(Buffer.from(DATA));
    expect([notes.shown, notes.passed.length, notes.reader.isHeld]).toEqual([[0], 0, true]);
    notes.fate = undefined;
    notes.reader.release();
    expect(notes.shown).toEqual([0, 0, 0]);
    expect(Buffer.concat(notes.passed).equals(Buffer.concat([DATA, DATA]))).toBe(true);
    notes.onShown = () => notes.reader.hold();
    notes.reader.take(Buffer.from(Buffer.concat([DATA, EMPTY])));
    expect(notes.shown).toEqual([0, 0, 0, 0]);
    notes.onShown = () => undefined;
    notes.reader.release();
    expect(Buffer.concat(notes.passed).equals(Buffer.concat([DATA, DATA, DATA, EMPTY]))).toBe(true);
  });

  test('lets in what waits between two frames alone', () => {
    const notes = new Notes();
    notes.reader.take(Buffer.from(DATA.subarray(0, 12)));
    notes.hasWaiting = true;
    notes.reader.take(Buffer.from(DATA.subarray(12, 20)));
    expect([notes.boundaries, notes.reader.isWithinPassing]).toEqual([[], true]);
    notes.reader.take(Buffer.from(Buffer.concat([DATA.subarray(20), DATA])));
    expect(notes.boundaries).toEqual([DATA.length]);
    expect(notes.reader.isWithinPassing).toBe(false);
    notes.hasWaiting = true;
    notes.reader.take(Buffer.alloc(0));
    expect(notes.boundaries).toEqual([DATA.length, 2 * DATA.length]);
  });
});

describe('frames', () => {
  test('are written as RFC 9113 lays them out', () => {
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    expect(hex(encodeRstStream(MAX_31_BITS, 'cancel'))).toBe(
      '000004 03 00 7fffffff 00000008'.replaceAll(' ', ''),
    );
    expect(hex(encodeGoAway(3, 'enhance_your_calm'))).toBe(
      '000008 07 00 00000000 00000003 0000000b'.replaceAll(' ', ''),
    );
    const header: FrameHeader = { length: 0, type: 0, flags: 0, streamId: 0 };
    readFrameHeader(Buffer.from('00aabbccddeeffffffff', 'hex'), 1, header);
    expect(header).toEqual({ length: 0xaabbcc, type: 0xdd, flags: 0xee, streamId: MAX_31_BITS });
  });
});
