import { describe, expect, test } from 'bun:test';
import { FieldList, HpackDecoder } from '../../shared/wire/hpack-decoder.ts';
import { encodeFields } from '../../shared/wire/hpack-encoder.ts';
import { markBlock, markHead } from './trace-fields.ts';

const OURS = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const mark = (head: string, dropsTracestate = false): string =>
  Buffer.from(markHead(Buffer.from(head, 'latin1'), { traceparent: OURS, dropsTracestate })).toString(
    'latin1',
  );

describe('markHead()', () => {
  test('puts ours in the place of what there is, however often and however it is written', () => {
    expect(
      mark('GET / HTTP/1.1\r\nTraceParent: x\r\nHost: a\r\ntraceparent:y\r\nTRACEPARENT: z\r\n\r\n'),
    ).toBe(`GET / HTTP/1.1\r\nHost: a\r\ntraceparent: ${OURS}\r\n\r\n`);
  });

  test('leaves tracestate, unless it is nobody’s, and all that is named alike', () => {
    const head =
      'GET /traceparent: HTTP/1.1\r\ntracestate: a=b\r\nx-traceparent: 1\r\ntraceparents: 2\r\n\r\n';
    expect(mark(head)).toBe(`${head.slice(0, -2)}traceparent: ${OURS}\r\n\r\n`);
    expect(mark(head, true)).toBe(
      `${head.replace('tracestate: a=b\r\n', '').slice(0, -2)}traceparent: ${OURS}\r\n\r\n`,
    );
  });

  test('adds ours to a head without fields', () => {
    expect(mark('GET / HTTP/1.0\r\n\r\n')).toBe(`GET / HTTP/1.0\r\ntraceparent: ${OURS}\r\n\r\n`);
  });
});

describe('markBlock()', () => {
  const fields = (names: readonly (readonly [string, string])[]): Uint8Array =>
    encodeFields(names.map(([name, value]) => ({ name, value, isNeverIndexed: false })));
  const read = (block: Uint8Array): readonly (readonly [string, string])[] => {
    const decoder = new HpackDecoder({ listBytes: 1 << 16, fields: 100 });
    decoder.allowTableBytes(0);
    const list = new FieldList();
    decoder.decode(Buffer.from(block), { start: 0, end: block.length }, list);
    return list.names.map((name, index) => [name, list.values[index] ?? ''] as const);
  };

  test('puts ours in the place of what there is, behind all others', () => {
    const block = fields([
      [':method', 'GET'],
      ['traceparent', 'x'],
      ['tracestate', 'a=b'],
      ['accept', '*/*'],
      ['traceparent', 'y'],
    ]);
    const marked = (dropsTracestate: boolean): unknown =>
      read(markBlock(block, { traceparent: OURS, dropsTracestate }));
    expect(marked(false)).toEqual([
      [':method', 'GET'],
      ['tracestate', 'a=b'],
      ['accept', '*/*'],
      ['traceparent', OURS],
    ]);
    expect(marked(true)).toEqual([
      [':method', 'GET'],
      ['accept', '*/*'],
      ['traceparent', OURS],
    ]);
  });

  test('goes on with a block of whatever names', () => {
    expect(read(markBlock(fields([]), { traceparent: OURS, dropsTracestate: true }))).toEqual([
      ['traceparent', OURS],
    ]);
  });
});
