import { beforeEach, describe, expect, test } from 'bun:test';
import {
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
} from '../../../shared/wire/http2-frame.ts';
import { END, get, headers, ScriptedHttp2, text } from '../fixtures/scripted-http2.ts';
import { HTTP2_LIMITS } from './limits.ts';

const OPEN = FLAG.endHeaders;
const answer = (streamId: number): Uint8Array => headers(streamId, END, Buffer.of(0x88));
const data = (streamId: number, flags = 0): Uint8Array =>
  encodeFrame(FRAME.data, streamId, { flags, payload: Buffer.alloc(30) });

describe('Http2Relay where a client sends on a stream that is closed (RFC 9113 5.1)', () => {
  let rig: ScriptedHttp2;
  beforeEach(async () => {
    rig = new ScriptedHttp2();
    await rig.begin();
    await rig.says(rig.client, get(1, '/a', OPEN), get(3, '/denied'), get(7, '/a'));
    await rig.connect();
  });

  /** What each side hears, once the client has said so much. */
  async function heard(...frames: readonly Uint8Array[]): Promise<{ client: string; application: string }> {
    rig.news(rig.client);
    rig.news(rig.application);
    await rig.says(rig.client, ...frames);
    return { client: rig.news(rig.client), application: rig.news(rig.application) };
  }

  test.each<[string, number, () => Promise<void>]>([
    [
      'both sides have ended',
      1,
      async () => {
        await rig.says(rig.client, data(1, FLAG.endStream));
        await rig.says(rig.application, answer(1));
      },
    ],
    ['it has reset itself', 1, async () => await rig.says(rig.client, encodeRstStream(1, 'cancel'))],
    ['was refused when it had ended its request', 3, async () => undefined],
    ['it has passed over', 5, async () => undefined],
    [
      'the application has reset, and the client has ended',
      1,
      async () => {
        await rig.says(rig.application, encodeRstStream(1, 'no_error'));
        await rig.says(rig.client, data(1, FLAG.endStream));
      },
    ],
  ])('tells it once where %s', async (_, streamId, close) => {
    await close();
    const told = text(encodeRstStream(streamId, 'stream_closed'), encodeWindowUpdate(0, 30));
    expect(await heard(data(streamId, FLAG.endStream))).toEqual({ client: told, application: '' });
    const swallowed = { client: text(encodeWindowUpdate(0, 60)), application: '' };
    expect(await heard(data(streamId), data(streamId))).toEqual(swallowed);
    const goesOn = await heard(get(9, '/b'));
    expect(goesOn.application).toContain('/b');
    expect(rig.judge.outcomes).not.toContain('tcp protocol_error');
  });

  test('ends what a client goes on with after its end, before an answer to it is complete', async () => {
    await rig.says(rig.client, data(1, FLAG.endStream));
    await rig.says(rig.application, headers(1, FLAG.endHeaders, Buffer.of(0x88)));
    expect(await heard(data(1))).toEqual({
      client: text(encodeRstStream(1, 'stream_closed'), encodeWindowUpdate(0, 30)),
      application: text(encodeRstStream(1, 'cancel')),
    });
    expect(rig.judge.outcomes.at(-1)).toBe('http /a protocol_error');
    // What the application has said meanwhile, and what the client still says, reaches nobody.
    await rig.says(rig.application, data(1, FLAG.endStream));
    expect([rig.news(rig.client), rig.news(rig.application)]).toEqual(['', text(encodeWindowUpdate(0, 30))]);
    const swallowed = { client: text(encodeWindowUpdate(0, 30)), application: '' };
    expect(await heard(data(1))).toEqual(swallowed);
  });

  test('does not blame a client for what it sent before it could know that we or the application ended a stream', async () => {
    await rig.says(rig.client, get(9, '/denied', OPEN), get(11, '/lost', OPEN));
    await rig.says(rig.application, encodeRstStream(1, 'cancel'));
    rig.relay
      .carried(({ path }) => (path === '/lost' ? { message: 'lost' } : undefined))
      .pass()
      .goOn(() => true);
    const swallowed = { client: text(encodeWindowUpdate(0, 90)), application: '' };
    for (let times = 0; times < 3; times++)
      expect(await heard(data(1), data(9), data(11))).toEqual(swallowed);
    const ends = [data(1, FLAG.endStream), data(9, FLAG.endStream), encodeRstStream(11, 'cancel')];
    const lastOnes = { client: text(encodeWindowUpdate(0, 60)), application: '' };
    expect(await heard(...ends)).toEqual(lastOnes);
  });

  test('ends a connection that does nothing else', async () => {
    const last = 2 * HTTP2_LIMITS.resetsPerSecond + 1001;
    await rig.says(rig.client, get(last, '/a'));
    const late = Array.from({ length: HTTP2_LIMITS.resetsPerSecond + 1 }, (_, i) => data(2 * i + 9));
    const { client, application } = await heard(...late);
    expect([rig.client.isEnded, application]).toEqual([true, '']);
    expect(client).toEndWith(text(encodeGoAway(last, 'enhance_your_calm')));
    expect(client.split(text(encodeRstStream(11, 'stream_closed')))).toHaveLength(2);
  });
});
