import { beforeEach, describe, expect, test } from 'bun:test';
import {
  encodeFrame,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
} from '../../../shared/wire/http2-frame.ts';
import { blockOf, requestOf } from '../fixtures/http2-raw-client.ts';
import { END, get, headers, ScriptedHttp2, text } from '../fixtures/scripted-http2.ts';

/** The stream of each test, behind another one. */
const ASKED = 101;
const OPEN = FLAG.endHeaders;
const TRAILERS = blockOf([['x-sum', '5']]);
const post = (streamId: number, bytes: number | undefined, flags: number = OPEN): Uint8Array => {
  const more = bytes === undefined ? {} : { 'content-length': String(bytes) };
  return headers(streamId, flags, blockOf(requestOf('/upload', more, 'POST')));
};
const data = (payload: string, flags = 0): Uint8Array =>
  encodeFrame(FRAME.data, ASKED, { flags, payload: Buffer.from(payload) });
const padded = (content: string, padding: number, flags = 0): Uint8Array =>
  encodeFrame(FRAME.data, ASKED, {
    flags: flags | FLAG.padded,
    payload: Buffer.concat([Buffer.of(padding), Buffer.from(content), Buffer.alloc(padding)]),
  });

describe('Http2Relay and the length that a request says its body has (RFC 9113 8.1.1)', () => {
  let rig: ScriptedHttp2;
  beforeEach(async () => {
    rig = new ScriptedHttp2();
    await rig.begin();
    await rig.says(rig.client, get(99, '/a'));
    await rig.connect();
  });

  test.each<[string, number | undefined, readonly Uint8Array[]]>([
    ['in one frame', 5, [data('hello', FLAG.endStream)]],
    ['in several frames, of which one is empty', 5, [data('he'), data(''), data('llo', FLAG.endStream)]],
    ['whose end stands alone', 5, [data('hello'), data('', FLAG.endStream)]],
    ['with padding', 5, [padded('hell', 255), padded('o', 0, FLAG.endStream)]],
    ['with trailers', 5, [data('hello'), headers(ASKED, END, TRAILERS)]],
    ['of no bytes', 0, [data('', FLAG.endStream)]],
    ['that does not say how long it is', undefined, [data('hel'), padded('lo', 9, FLAG.endStream)]],
  ])('a body as long as that passes as it came: %s', async (_, bytes, frames) => {
    await rig.says(rig.client, post(ASKED, bytes), ...frames);
    expect(rig.news(rig.application)).toEndWith(text(...frames));
    expect([rig.news(rig.client), rig.judge.outcomes.at(-1)]).toEqual(['', 'http /upload policy_allow']);
  });

  test.each<[string, number, readonly Uint8Array[], readonly Uint8Array[]]>([
    ['one frame is too long', 5, [], [data('hello!', FLAG.endStream)]],
    ['one more frame comes', 5, [data('hello')], [data('GET /admin', FLAG.endStream)]],
    ['something comes where nothing is to', 0, [], [data('x')]],
    ['what is more stands between padding', 5, [data('hell')], [padded('ooo', 200)]],
    ['it ends too early', 5, [data('hell')], [data('', FLAG.endStream)]],
    ['it ends too early but for its padding', 5, [data('h')], [padded('', 3, FLAG.endStream)]],
    ['its trailers come too early', 5, [data('hell')], [headers(ASKED, END, TRAILERS)]],
  ])(
    'the request is over where %s, and nothing of that reaches the application',
    async (_, bytes, good, bad) => {
      // In one read: what was good goes before the end of the stream.
      await rig.says(rig.client, post(ASKED, bytes), ...good, ...bad);
      const told = rig.news(rig.application);
      expect(told).toEndWith(text(...good, encodeRstStream(ASKED, 'cancel')));
      const dropped = bad.reduce((sum, frame) => sum + (frame[3] === FRAME.data ? frame.length - 9 : 0), 0);
      const credit = dropped > 0 ? [encodeWindowUpdate(0, dropped)] : [];
      expect(rig.news(rig.client)).toBe(text(encodeRstStream(ASKED, 'protocol_error'), ...credit));
      expect(rig.judge.outcomes.slice(-2)).toEqual([
        'http /upload policy_allow',
        'http /upload protocol_error',
      ]);
      await rig.says(rig.client, get(103, '/b'));
      expect(rig.news(rig.application)).toContain('/b');
    },
  );

  test('a request without the body that it announces reaches nobody', async () => {
    await rig.says(rig.client, post(ASKED, 5, END), post(103, 0, END));
    expect(rig.news(rig.client)).toBe(text(encodeRstStream(ASKED, 'protocol_error')));
    expect(rig.news(rig.application).match(/upload/g)).toHaveLength(1);
    expect(rig.judge.outcomes.slice(-2)).toEqual([
      'http /upload protocol_error',
      'http /upload policy_allow',
    ]);
  });

  test('a frame with padding that comes in pieces waits until it is whole, as long as it takes', async () => {
    const frame = padded('hello', 7, FLAG.endStream);
    await rig.says(rig.client, post(ASKED, 5), frame.subarray(0, 12));
    expect(rig.news(rig.application)).not.toContain('hel');
    rig.judge.clock.advance(3_600_000);
    await rig.says(rig.client, frame.subarray(12));
    expect(rig.news(rig.application)).toBe(text(frame));
  });

  test('a stream that is cut while a frame with padding comes ends without it', async () => {
    const frame = padded('hello', 7, FLAG.endStream);
    await rig.says(rig.client, post(ASKED, 5), frame.subarray(0, 12));
    rig.news(rig.application);
    rig.relay
      .carried(({ path }) => (path === '/upload' ? { message: 'lost' } : undefined))
      .pass()
      .goOn(() => true);
    await rig.says(rig.client, frame.subarray(12));
    expect(rig.news(rig.application)).toBe(text(encodeRstStream(ASKED, 'cancel')));
    expect(rig.news(rig.client)).toEndWith(text(encodeWindowUpdate(0, frame.length - 9)));
  });

  test('padding that is longer than its frame ends the connection', async () => {
    const broken = encodeFrame(FRAME.data, ASKED, { flags: FLAG.padded, payload: Buffer.of(5, 1, 2) });
    await rig.says(rig.client, post(ASKED, 5), broken);
    expect(rig.client.isEnded).toBe(true);
    expect(rig.news(rig.application)).not.toContain(text(broken));
  });
});
