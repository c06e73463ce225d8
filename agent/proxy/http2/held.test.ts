import { beforeEach, describe, expect, test } from 'bun:test';
import { encodeFrame, encodeRstStream, FLAG, FRAME } from '../../../shared/wire/http2-frame.ts';
import { get, headers, ScriptedHttp2, text } from '../fixtures/scripted-http2.ts';
import { settled } from '../fixtures/scripted-stream.ts';
import { HTTP2_LIMITS } from './limits.ts';

const data = (streamId: number): Uint8Array =>
  encodeFrame(FRAME.data, streamId, { payload: Buffer.alloc(30) });
const findLost = ({ path }: { readonly path: string }): { readonly message: string } | undefined =>
  path === '/lost' ? { message: 'lost' } : undefined;

describe('Http2Relay that is judged again in pieces', () => {
  let rig: ScriptedHttp2;
  beforeEach(async () => {
    rig = new ScriptedHttp2();
    await rig.begin();
  });

  test('lets nothing pass, in either direction, until it is released, and then all that came', async () => {
    const { client, application, relay } = rig;
    const streams = relay.carried(findLost);
    await rig.says(client, get(1, '/a', FLAG.endHeaders), get(3, '/lost', FLAG.endHeaders));
    await rig.connect();
    streams.hold();
    const answer = headers(1, FLAG.endHeaders, Buffer.of(0x88));
    await rig.says(client, data(1), data(3), get(5, '/b'));
    await rig.says(application, answer, headers(3, FLAG.endHeaders, Buffer.of(0x88)));
    expect([rig.news(client), rig.news(application), client.isPaused, application.isPaused]).toEqual([
      '',
      '',
      true,
      true,
    ]);
    expect(rig.judge.outcomes).not.toContain('http /b policy_allow');
    expect(streams.pass().goOn(() => true)).toBe(true);
    // Who has lost hears of it at once.
    expect([rig.news(client), rig.news(application)]).toEqual([
      text(encodeRstStream(3, 'cancel')),
      text(encodeRstStream(3, 'cancel')),
    ]);
    streams.release();
    await settled();
    expect(rig.news(application)).toStartWith(text(data(1)));
    expect(rig.news(client)).toContain(text(answer));
    expect(rig.judge.outcomes).toContain('http /b policy_allow');
    expect(rig.news(client)).not.toContain(text(headers(3, FLAG.endHeaders, Buffer.of(0x88))));
    expect([client.isPaused, application.isPaused]).toEqual([false, false]);
  });

  test('judges those that are open still, one by one', async () => {
    const { client, application, relay } = rig;
    await rig.says(client, get(1, '/a'), get(3, '/b'), get(5, '/lost'), get(7, '/c'));
    await rig.connect();
    const judged: string[] = [];
    const pass = relay
      .carried(({ path }) => {
        judged.push(path);
        return findLost({ path });
      })
      .pass();
    const oneMore = (): (() => boolean) => {
      let left = 1;
      return () => left-- > 0;
    };
    expect([pass.goOn(oneMore()), judged]).toEqual([false, ['/a']]);
    await rig.says(client, encodeRstStream(3, 'cancel'));
    await rig.says(client, get(9, '/new'));
    rig.news(application);
    expect(pass.goOn(oneMore())).toBe(false);
    expect([pass.goOn(oneMore()), rig.news(application)]).toEqual([
      false,
      text(encodeRstStream(5, 'cancel')),
    ]);
    expect([pass.goOn(() => true), judged]).toEqual([true, ['/a', '/lost', '/c']]);
  });

  test('judges all of them once more where everything changed meanwhile, those before only after the others', async () => {
    const { client, relay } = rig;
    await rig.says(client, get(1, '/a'), get(3, '/b'), get(5, '/c'));
    await rig.connect();
    const judged: string[] = [];
    const pass = relay.carried(({ path }) => void judged.push(path)).pass();
    let left = 2;
    expect(pass.goOn(() => left-- > 0)).toBe(false);
    await rig.says(client, encodeRstStream(3, 'cancel'), get(7, '/d'));
    pass.again();
    expect([pass.count, pass.goOn(() => true), judged]).toEqual([3, true, ['/a', '/b', '/c', '/d', '/a']]);
  });

  test('connects no application meanwhile, and none at all where something was lost', async () => {
    const { client, application, relay } = rig;
    const streams = relay.carried(findLost);
    await rig.says(client, get(1, '/a'), get(3, '/lost'));
    streams.hold();
    rig.opening.resolve(application);
    await settled();
    expect(application.text).toBe('');
    streams.pass().goOn(() => true);
    streams.release();
    await settled();
    expect([application.text, application.abortion !== undefined, client.isEnded]).toEqual(['', true, true]);
  });

  test('connects it afterwards where nothing was lost', async () => {
    const { client, application, relay } = rig;
    const streams = relay.carried(findLost);
    await rig.says(client, get(1, '/a'));
    streams.hold();
    rig.opening.resolve(application);
    await settled();
    streams.hold();
    streams.release();
    await settled();
    expect(application.text).toContain('/a');
    expect(client.isPaused).toBe(false);
  });

  test('leaves no application open that was connected when the client had gone', async () => {
    const { client, application, relay } = rig;
    await rig.says(client, get(1, '/a'));
    relay.carried(findLost).hold();
    rig.opening.resolve(application);
    client.closes({ message: 'it broke' });
    await settled();
    expect([application.text, application.abortion !== undefined, rig.closures]).toEqual(['', true, 1]);
  });

  test('reads no further requests in a turn that was due', async () => {
    const { client, judge, relay } = rig;
    const streams = relay.carried(findLost);
    const { requestsInATurn } = HTTP2_LIMITS;
    const requests = Array.from({ length: requestsInATurn + 1 }, (_, i) => get(2 * i + 1, '/denied'));
    await rig.says(client, ...requests);
    streams.hold();
    judge.clock.advance(0);
    await settled();
    expect(judge.records).toHaveLength(requestsInATurn);
    streams.release();
    await settled();
    expect(judge.records).toHaveLength(requestsInATurn + 1);
  });

  test('does not blame a client for standing still within a frame meanwhile, but does so afterwards', async () => {
    const { client, application, judge, relay } = rig;
    const streams = relay.carried(findLost);
    await rig.says(client, get(1, '/a', FLAG.endHeaders), get(3, '/lost'));
    await rig.connect();
    await rig.says(client, data(1).subarray(0, 19));
    streams.pass().goOn(() => true);
    streams.hold();
    judge.clock.advance(10 * HTTP2_LIMITS.cutMs);
    expect(client.abortion).toBeUndefined();
    streams.release();
    judge.clock.advance(HTTP2_LIMITS.cutMs);
    expect([client.abortion, application.abortion]).not.toContain(undefined);
  });
});
