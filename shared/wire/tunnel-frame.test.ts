import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import {
  encodeFrame,
  FrameDecoder,
  type FrameSink,
  MAX_DATA_BYTES,
  MAX_FRAME_TEXT_BYTES,
  type TunnelFrame,
  writeDataHeader,
} from './tunnel-frame.ts';

const ID = '0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff';
const V4 = { address: new Uint8Array([10, 1, 2, 3]), port: 8080 };
const V6 = { address: new Uint8Array(16).fill(0xfd), port: 65535 };

const FRAMES: readonly TunnelFrame[] = [
  { type: 'open', connectionId: ID, destination: V4, source: V6 },
  { type: 'open', connectionId: ID, destination: V6, source: V4 },
  { type: 'accept' },
  { type: 'deny', reasonCode: 2, decisionId: ID, text: 'no rule allows it' },
  { type: 'end' },
  { type: 'reset', reasonCode: 255, decisionId: ID, text: '' },
  { type: 'ping' },
  { type: 'pong' },
  { type: 'retire' },
];

class Collector implements FrameSink {
  readonly items: (TunnelFrame | string)[] = [];

  onData(bytes: Uint8Array, start: number, end: number): void {
    const text = Buffer.from(bytes.subarray(start, end)).toString('latin1');
    const last = this.items.at(-1);
    if (typeof last === 'string') this.items[this.items.length - 1] = last + text;
    else this.items.push(text);
  }

  onFrame(frame: TunnelFrame): void {
    this.items.push(frame);
  }
}

function data(text: string): Uint8Array {
  const bytes = new Uint8Array(4 + text.length);
  writeDataHeader(bytes, 0, text.length);
  bytes.set(Buffer.from(text, 'latin1'), 4);
  return bytes;
}

function decodeAll(...pieces: readonly Uint8Array[]): (TunnelFrame | string)[] {
  const collector = new Collector();
  const decoder = new FrameDecoder();
  for (const piece of pieces) decoder.decode(piece, collector);
  return collector.items;
}

const REFUSED = 'tunnel_frame_invalid';

describe('tunnel frames', () => {
  test('FrameDecoder undoes encodeFrame() for every frame', () => {
    for (const frame of FRAMES) expect(decodeAll(encodeFrame(frame))).toEqual([frame]);
  });

  test('an open frame has the documented bytes', () => {
    expect(Buffer.from(encodeFrame(FRAMES[0]!)).toString('hex')).toBe(
      `01000${(17 + 7 + 19).toString(16).padStart(3, '0')}01${ID.replaceAll('-', '')}040a0102031f9006${'fd'.repeat(16)}ffff`,
    );
  });

  test('FrameDecoder gives the same for a stream whole, byte by byte and cut anywhere', () => {
    const stream = Buffer.concat([
      encodeFrame(FRAMES[0]!),
      data('hello'),
      data('x'.repeat(70_000)),
      encodeFrame({ type: 'end' }),
      ...FRAMES.map(encodeFrame),
      data('tail'),
    ]);
    const expected: (TunnelFrame | string)[] = [
      FRAMES[0]!,
      `hello${'x'.repeat(70_000)}`,
      { type: 'end' },
      ...FRAMES,
      'tail',
    ];
    expect(decodeAll(stream)).toEqual(expected);
    expect(decodeAll(...Array.from(stream, (byte) => Uint8Array.of(byte)))).toEqual(expected);
    for (let cut = 0; cut < 120; cut++)
      expect(decodeAll(stream.subarray(0, cut), stream.subarray(cut))).toEqual(expected);
  });

  test('writeDataHeader() carries the longest length', () => {
    const header = new Uint8Array(6);
    writeDataHeader(header, 1, MAX_DATA_BYTES);
    expect(Array.from(header)).toEqual([0, 4, 255, 255, 255, 0]);
  });

  test('encodeFrame() cuts a long text between characters', () => {
    const [frame] = decodeAll(
      encodeFrame({ type: 'deny', reasonCode: 1, decisionId: ID, text: 'é'.repeat(400) }),
    );
    expect(frame).toMatchObject({ text: 'é'.repeat(MAX_FRAME_TEXT_BYTES / 2) });
  });

  test('encodeFrame() refuses values that do not fit', () => {
    const bad = { address: new Uint8Array(5), port: 1 };
    expect(() => encodeFrame({ type: 'open', connectionId: ID, destination: bad, source: V4 })).toThrow(
      RangeError,
    );
    expect(() =>
      encodeFrame({ type: 'open', connectionId: ID, destination: { ...V4, port: 65_536 }, source: V4 }),
    ).toThrow(RangeError);
    expect(() => encodeFrame({ type: 'deny', reasonCode: 256, decisionId: ID, text: '' })).toThrow(
      RangeError,
    );
  });

  test('FrameDecoder refuses every unknown type', () => {
    for (let type = 0; type < 256; type++) {
      if (type >= 1 && type <= 9) continue;
      expect(reasonOf(() => decodeAll(Uint8Array.of(type, 0, 0, 0)))).toBe(REFUSED);
    }
  });

  test('FrameDecoder refuses an empty data frame and payloads of the wrong length', () => {
    expect(reasonOf(() => decodeAll(Uint8Array.of(4, 0, 0, 0)))).toBe(REFUSED);
    for (const type of [2, 5, 7, 8, 9])
      expect(reasonOf(() => decodeAll(Uint8Array.of(type, 0, 0, 1, 0)))).toBe(REFUSED);
    for (const type of [1, 3, 6])
      expect(reasonOf(() => decodeAll(Uint8Array.of(type, 0, 0, 3, 1, 2, 3)))).toBe(REFUSED);
    expect(reasonOf(() => decodeAll(Uint8Array.of(3, 0, 3, 0)))).toBe(REFUSED);
    const open = encodeFrame(FRAMES[0]!);
    const longer = new Uint8Array([...open, 0]);
    longer[3] = open[3]! + 1;
    expect(reasonOf(() => decodeAll(longer))).toBe(REFUSED);
  });

  test('FrameDecoder refuses an unknown version and an unknown address family', () => {
    for (const [offset, value] of [
      [4, 2],
      [21, 5],
    ] as const) {
      const open = encodeFrame(FRAMES[0]!);
      open[offset] = value;
      expect(reasonOf(() => decodeAll(open))).toBe(REFUSED);
    }
  });

  test('FrameDecoder ignores everything after it refused or was stopped', () => {
    const collector = new Collector();
    const decoder = new FrameDecoder();
    expect(reasonOf(() => decoder.decode(Uint8Array.of(0, 0, 0, 0), collector))).toBe(REFUSED);
    decoder.decode(encodeFrame({ type: 'end' }), collector);
    const stopped = new FrameDecoder();
    stopped.decode(Buffer.concat([encodeFrame({ type: 'end' }), encodeFrame({ type: 'ping' })]), {
      onData: () => undefined,
      onFrame: (frame) => {
        collector.items.push(frame);
        stopped.stop();
      },
    });
    expect(collector.items).toEqual([{ type: 'end' }]);
  });

  test('FrameDecoder only ever throws PicketError for random bytes', () => {
    let seed = 1;
    const next = (): number => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff) >> 8;
    for (let round = 0; round < 3000; round++) {
      const bytes = Uint8Array.from({ length: next() % 80 }, () => next() & (round % 2 === 0 ? 0xff : 0x0f));
      expect([undefined, REFUSED]).toContain(reasonOf(() => decodeAll(bytes)));
    }
  });
});
