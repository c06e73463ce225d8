import { beforeEach, describe, expect, spyOn, test } from 'bun:test';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  MAX_31_BITS,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings, parseSettings, SETTING } from '../../../shared/wire/http2-settings.ts';
import { blockOf, requestOf } from '../fixtures/http2-raw-client.ts';
import { FairShare } from '../connections/fair-share.ts';
import type { JudgeRig } from '../fixtures/judge-rig.ts';
import { ACK, END, get, headers, ScriptedHttp2, text } from '../fixtures/scripted-http2.ts';
import { settled, type ScriptedStream } from '../fixtures/scripted-stream.ts';
import { AFTERWORD_BYTES } from '../relays/relay-end.ts';
import { CLOSE_MS, LINGER_MS, PHASE_MS } from '../relays/relay-timer.ts';
import { HTTP2_LIMITS } from './limits.ts';

const settingOf = (identifier: number, value: number): Uint8Array =>
  encodeSettings(new Map([[identifier, value]]));

describe('Http2Relay, frame by frame', () => {
  let rig: ScriptedHttp2;
  let client: ScriptedStream;
  let application: ScriptedStream;
  let judge: JudgeRig;

  /** A relay to begin with. */
  function anew(endsAtMs?: number): void {
    rig = new ScriptedHttp2(endsAtMs);
    ({ client, application, judge } = rig);
  }

  beforeEach(() => anew());

  const says = async (from: ScriptedStream, ...frames: readonly Uint8Array[]): Promise<void> =>
    await rig.says(from, ...frames);
  const news = (stream: ScriptedStream): string => rig.news(stream);

  test('speaks HTTP/2 alone until a request is allowed, and then tells the application everything in one greeting', async () => {
    await rig.begin(
      encodeSettings(
        new Map([
          [SETTING.initialWindowSize, 100_000],
          [SETTING.headerTableSize, 65_536],
        ]),
      ),
    );
    const own = new Map([
      [SETTING.headerTableSize, 0],
      [SETTING.maxConcurrentStreams, HTTP2_LIMITS.openStreams],
    ]);
    expect(news(client)).toBe(text(encodeSettings(own), ACK));
    await says(client, ACK, encodeFrame(FRAME.ping, 0, { payload: Buffer.from('12345678') }));
    expect(news(client)).toBe(
      text(encodeFrame(FRAME.ping, 0, { flags: FLAG.ack, payload: Buffer.from('12345678') })),
    );
    await says(
      client,
      encodeWindowUpdate(0, 1000),
      encodeSettings(new Map([[SETTING.maxFrameSize, 20_000]])),
    );
    await says(client, encodeFrame(FRAME.ping, 0, { flags: FLAG.ack, payload: Buffer.alloc(8) }));
    expect(news(client)).toBe(text(ACK));
    await says(client, get(1, '/denied'), encodeFrame(0x42, 0, { payload: Buffer.from('unknown') }));
    expect([rig.opened, application.text]).toEqual([0, '']);
    await says(client, get(3, '/a'));
    expect([rig.opened, client.isPaused]).toEqual([1, true]);
    rig.opening.resolve(application);
    await settled();
    const told = new Map([
      [SETTING.headerTableSize, 0],
      [SETTING.enablePush, 0],
      [SETTING.initialWindowSize, 100_000],
      [SETTING.maxFrameSize, 20_000],
    ]);
    const block = Buffer.concat([
      Buffer.of(0x20),
      blockOf(requestOf('/a')),
      blockOf({ 'x-forwarded-client-cert': 'us' }),
    ]);
    expect(news(application)).toBe(
      text(CLIENT_PREFACE, encodeSettings(told), encodeWindowUpdate(0, 1000), headers(3, END, block)),
    );
    expect(client.isPaused).toBe(false);
  });

  test('the client has one acknowledgement for each of its SETTINGS, whoever gave it', async () => {
    await rig.begin();
    await says(client, ACK, get(1, '/a'));
    rig.opening.resolve(application);
    await settled();
    news(client);
    await says(
      application,
      encodeSettings(
        new Map([
          [SETTING.headerTableSize, 4096],
          [SETTING.maxConcurrentStreams, 9999],
        ]),
      ),
      ACK,
    );
    expect(news(client)).toBe(
      text(encodeSettings(new Map([[SETTING.maxConcurrentStreams, HTTP2_LIMITS.openStreams]]))),
    );
    news(application);
    await says(client, ACK, encodeSettings(new Map([[SETTING.headerTableSize, 1]])));
    expect(news(application)).toBe(text(ACK, encodeFrame(FRAME.settings, 0)));
    await says(application, ACK);
    expect(news(client)).toBe(text(ACK));
  });

  test('nothing goes on whose record is not kept: the connection ends, whatever else was allowed before', async () => {
    await rig.begin();
    await says(client, ACK, get(1, '/a'));
    await rig.connect();
    judge.isWritable = false;
    await says(client, get(3, '/b'), get(5, '/c'));
    expect(news(application)).toBe('');
    judge.isWritable = true;
    await says(client, get(7, '/d'));
    expect(news(application)).toBe('');
    judge.clock.advance(1);
    expect(client.abortion?.failure?.reason).toBe('audit_unavailable');
    expect([application.abortion === undefined, rig.closures]).toEqual([false, 1]);
  });

  test('an answer of ours stands between the frames of the application, not within them', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(100, 'd') });
    await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)), data.subarray(0, 50));
    news(client);
    await says(client, get(3, '/denied'));
    expect(news(client)).toBe('');
    await says(application, data.subarray(50), data);
    const got = news(client);
    expect(got.indexOf('{"error"')).toBeGreaterThan(0);
    expect(got.startsWith(text(data.subarray(50)))).toBe(true);
    expect(got.endsWith(text(data))).toBe(true);
  });

  test('nor within a header block of the application, and a stream is cut only behind it', async () => {
    await rig.begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await rig.connect();
    await says(application, headers(1, 0, Buffer.of(0x88)));
    news(client);
    rig.relay
      .carried(() => ({ message: 'lost' }))
      .pass()
      .goOn(() => true);
    expect(news(application)).toBe(text(encodeRstStream(1, 'cancel')));
    const rest = encodeFrame(FRAME.continuation, 1, { flags: FLAG.endHeaders });
    const late = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(70) });
    expect(news(client)).toBe('');
    await says(application, rest, late, late);
    expect(news(client)).toBe(text(rest, encodeRstStream(1, 'cancel')));
    expect(news(application)).toBe(text(encodeWindowUpdate(0, 140)));
  });

  test('the application waits where our answer has taken the last of the window, until the client gives it back', async () => {
    await rig.begin();
    await says(client, get(1, '/denied'));
    const body = JSON.stringify({
      error: 'denied',
      decision_id: 'id-1',
      reason: 'policy_deny',
      message: 'no rule of the policy allows it',
    });
    const owed = body.length + 1;
    await says(client, get(3, '/a'));
    await rig.connect();
    const full = encodeFrame(FRAME.data, 3, { payload: Buffer.alloc(65_535 - owed) });
    const more = encodeFrame(FRAME.data, 3, { payload: Buffer.alloc(owed) });
    await says(application, full, more);
    expect(news(client)).toBe(text(full));
    expect(application.isPaused).toBe(true);
    await says(client, encodeWindowUpdate(0, owed - 1));
    expect([news(client), news(application)]).toEqual(['', '']);
    await says(client, encodeWindowUpdate(0, 11));
    expect(news(client)).toBe(text(more));
    expect(news(application)).toBe(text(encodeWindowUpdate(0, 10)));
    expect(application.isPaused).toBe(false);
  });

  test('a client without room for it gets the answer without its body', async () => {
    await rig.begin(encodeSettings(new Map([[SETTING.initialWindowSize, 10]])));
    news(client);
    await says(client, get(1, '/denied'));
    const answer = news(client);
    expect(answer).toContain('application/json');
    expect(answer).not.toContain('{"error"');
    expect(answer).not.toContain('content-length');
    expect(answer.charCodeAt(4)).toBe(END);
  });

  test.each(['', 'application/grpc'])(
    'answers for an application that cannot be reached (%p)',
    async (type) => {
      await rig.begin();
      await says(
        client,
        headers(1, END, blockOf(requestOf('/a', type === '' ? [] : { 'content-type': type }))),
      );
      news(client);
      rig.opening.reject(new Error('nobody listens'));
      await settled();
      const answer = news(client);
      expect(answer).toContain(type === '' ? '502' : 'grpc-status\x0214');
      expect(answer.endsWith(text(encodeGoAway(1, 'no_error')))).toBe(true);
      expect(judge.outcomes).toEqual(['http /a policy_allow', 'http /a application_unreachable']);
      expect(client.isEnded).toBe(true);
      client.ends();
      client.closes();
      await settled();
      expect(rig.closures).toBe(1);
    },
  );

  test('tells each stream when the application breaks off', async () => {
    await rig.begin();
    await says(client, get(1, '/a'), get(3, '/b'));
    await rig.connect();
    await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)));
    news(client);
    application.closes({ message: 'it broke' });
    await settled();
    const answer = news(client);
    expect(answer).toStartWith(text(encodeRstStream(1, 'internal_error')));
    expect(answer).toContain('502');
    expect(judge.outcomes.slice(2)).toEqual([
      'http /a application_unreachable',
      'http /b application_unreachable',
    ]);
  });

  test.each<[string, Uint8Array]>([
    ['speaks HTTP/1.1', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['acknowledges before it says its SETTINGS', ACK],
  ])('ends a connection whose application %s', async (_, answer) => {
    await rig.begin();
    await says(client, get(1, '/a'));
    rig.opening.resolve(application);
    await settled();
    await says(application, answer);
    expect(client.text).toContain('502');
    expect(application.abortion).toBeDefined();
  });

  test('ends a connection whose application pushes, or interrupts a header block', async () => {
    for (const frames of [
      [encodeFrame(FRAME.pushPromise, 1, { flags: FLAG.endHeaders, payload: Buffer.of(0, 0, 0, 2, 0x88) })],
      [headers(1, 0, Buffer.of(0x88)), encodeFrame(FRAME.ping, 0, { payload: Buffer.alloc(8) })],
    ]) {
      anew();
      await rig.begin();
      await says(client, get(1, '/a'));
      await rig.connect();
      await says(application, ...frames);
      expect(application.abortion).toBeDefined();
    }
  });

  test('what a client sends on streams that were answered here does not reach the application', async () => {
    await rig.begin();
    await says(
      client,
      get(1, '/denied'),
      get(3, '/a'),
      get(5, '/denied'),
      get(7, '/denied', FLAG.endHeaders),
    );
    await rig.connect();
    await says(client, encodeRstStream(5, 'cancel'), encodeWindowUpdate(7, 9), encodeRstStream(7, 'cancel'));
    expect(news(application)).toBe('');
    await says(client, encodeRstStream(1, 'cancel'), encodeWindowUpdate(3, 9), encodeWindowUpdate(1, 9));
    expect(news(application)).toBe(text(encodeWindowUpdate(3, 9)));
  });

  test('a body that is still coming on a stream that the application has reset is thrown away', async () => {
    await rig.begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await rig.connect();
    await says(application, encodeRstStream(1, 'no_error'));
    expect(news(client)).toBe(text(encodeRstStream(1, 'no_error')));
    await says(client, encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(30) }), get(1, '/x'), get(3, '/b'));
    expect(news(client)).toBe(text(encodeWindowUpdate(0, 30)));
    expect(news(application)).toContain('/b');
    expect(application.text).not.toContain('/x');
  });

  test('an application that goes on with what is over is not read beyond what may wait for a client within a frame', async () => {
    await rig.begin();
    await says(client, get(1, '/a'), get(3, '/b', FLAG.endHeaders));
    await rig.connect();
    await says(application, headers(1, END, Buffer.of(0x88)));
    const data = encodeFrame(FRAME.data, 3, { payload: Buffer.alloc(100) });
    await says(client, data.subarray(0, 19));
    news(application);
    const over = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(1) });
    const credit = encodeWindowUpdate(0, 1);
    const room = Math.ceil((HTTP2_LIMITS.waitingBytes + 1) / credit.length);
    for (let said = 0; said < room; said++) {
      expect(application.isPaused).toBe(false);
      await says(application, over);
    }
    expect(application.isPaused).toBe(true);
    expect(client.isPaused).toBe(false);
    await says(client, data.subarray(19));
    expect(news(application)).toBe(text(data.subarray(19)) + text(credit).repeat(room));
    expect(application.isPaused).toBe(false);
  });

  test('ends a connection that opens and resets streams without end, and takes as many a second as programs need', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    const pairs = (from: number, count: number): readonly Uint8Array[] =>
      Array.from({ length: count }, (_, i) => [
        get(from + 2 * i, '/a'),
        encodeRstStream(from + 2 * i, 'cancel'),
      ]).flat();
    await rig.saysMany(pairs(3, HTTP2_LIMITS.resetsPerSecond));
    expect(client.isEnded).toBe(false);
    judge.clock.advance(1000);
    await rig.saysMany(pairs(10_001, HTTP2_LIMITS.resetsPerSecond));
    expect(client.isEnded).toBe(false);
    await rig.saysMany(pairs(20_001, 1));
    expect(client.isEnded).toBe(true);
    expect(client.text.endsWith(text(encodeGoAway(20_001, 'enhance_your_calm')))).toBe(true);
  });

  test('has no more streams open than it follows, whatever the client was told', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    const last = 2 * HTTP2_LIMITS.openStreams + 1;
    const requests = Array.from({ length: HTTP2_LIMITS.openStreams }, (_, i) => get(2 * i + 3, '/a'));
    await rig.saysMany(requests);
    expect(news(client)).toBe(text(encodeRstStream(last, 'refused_stream')));
    expect(judge.records.at(-1)?.reason).toBe('overloaded');
    await says(application, headers(1, END, Buffer.of(0x88)));
    news(client);
    await says(client, get(last + 2, '/a'));
    expect(news(client)).toBe('');
  });

  test('nor heads of them beyond its memory', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    const value = 'v'.repeat(15_000);
    const count = Math.ceil(HTTP2_LIMITS.openHeadBytes / value.length) + 1;
    await rig.saysMany(
      Array.from({ length: count }, (_, i) =>
        headers(2 * i + 3, END, blockOf(requestOf('/a', { large: value }))),
      ),
    );
    expect(news(client)).toContain(text(encodeRstStream(2 * count + 1, 'refused_stream')));
    expect(judge.records.at(-1)?.reason).toBe('overloaded');
  });

  test('nor heads of all connections together beyond the share of its party, which has them back when they end', async () => {
    const maxBytes = 1024 * 1024;
    const heads = new FairShare(maxBytes);
    const large = { large: 'v'.repeat(15_000) };
    const ask = (streamId: number): Uint8Array => headers(streamId, END, blockOf(requestOf('/a', large)));
    const rigs = Array.from({ length: 20 }, () => new ScriptedHttp2(Infinity, heads));
    for (const each of rigs) {
      await each.begin();
      await each.says(each.client, ask(1));
      await each.connect();
      await each.saysMany(Array.from({ length: 20 }, (_, i) => ask(2 * i + 3)));
    }
    const refused = rigs.filter(({ judge: { records } }) => records.at(-1)?.reason === 'overloaded');
    expect(refused.length).toBeGreaterThan(10);
    expect(heads.taken).toBeLessThan(maxBytes);
    // What every connection has for itself is left to the last one too.
    expect(rigs.at(-1)?.application.text.match(/v{15000}/g)?.length).toBe(5);
    for (const each of rigs) each.relay.cut({ message: 'It is over' });
    expect(heads.taken).toBe(0);
  });

  test('nothing passes on streams that were cut, however many they are', async () => {
    await rig.begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await rig.connect();
    let last = 1;
    for (let round = 0; round < 2; round++) {
      const requests = Array.from({ length: HTTP2_LIMITS.openStreams - 1 }, () =>
        get((last += 2), '/a', FLAG.endHeaders),
      );
      await rig.saysMany(requests);
      rig.relay
        .carried(() => ({ message: 'lost' }))
        .pass()
        .goOn(() => true);
      expect(news(application)).toEndWith(text(encodeRstStream(last, 'cancel')));
    }
    news(client);
    const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(30) });
    await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)), data);
    expect([news(client), news(application)]).toEqual(['', text(encodeWindowUpdate(0, 30))]);
    // Of the first one nobody remembers who ended it.
    await says(client, data, data);
    const told = text(encodeRstStream(1, 'stream_closed'), encodeWindowUpdate(0, 60));
    expect([news(client), news(application)]).toEqual([told, '']);
    await says(client, encodeFrame(FRAME.data, last, { payload: Buffer.alloc(30) }));
    expect([news(client), news(application)]).toEqual([text(encodeWindowUpdate(0, 30)), '']);
  });

  test('nor is what was lost kept from the application by a client that stops within a frame', async () => {
    await rig.begin();
    await says(client, get(1, '/a', FLAG.endHeaders), get(3, '/lost'));
    await rig.connect();
    const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(100) });
    const isLost = ({ path }: { readonly path: string }): { readonly message: string } | undefined =>
      path === '/lost' ? { message: 'lost' } : undefined;
    await says(client, data.subarray(0, 19));
    rig.relay
      .carried(isLost)
      .pass()
      .goOn(() => true);
    judge.clock.advance(HTTP2_LIMITS.cutMs - 1);
    await says(client, data.subarray(19), get(5, '/lost'), data.subarray(0, 19));
    expect(application.text).toContain(text(encodeRstStream(3, 'cancel')));
    judge.clock.advance(1);
    expect(client.abortion).toBeUndefined();
    rig.relay
      .carried(isLost)
      .pass()
      .goOn(() => true);
    judge.clock.advance(HTTP2_LIMITS.cutMs - 1);
    expect(client.abortion).toBeUndefined();
    judge.clock.advance(1);
    expect([client.abortion, application.abortion]).not.toContain(undefined);
    expect([rig.closures, judge.clock.pending]).toEqual([1, 0]);
  });

  test.each(['client', 'application'] as const)(
    'nor does the rest of a frame pass whose stream was lost: the connection of a %s within it ends',
    async (side) => {
      await rig.begin();
      await says(client, get(1, '/lost', FLAG.endHeaders), get(3, '/a', FLAG.endHeaders));
      await rig.connect();
      await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)));
      const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(100) });
      await says(rig[side], data.subarray(0, 19));
      const isOther = ({ path }: { readonly path: string }): { readonly message: string } | undefined =>
        path === '/lost' ? undefined : { message: 'lost' };
      rig.relay
        .carried(isOther)
        .pass()
        .goOn(() => true);
      expect(client.abortion).toBeUndefined();
      rig.relay
        .carried(() => ({ message: 'lost' }))
        .pass()
        .goOn(() => true);
      expect([client.abortion, application.abortion]).not.toContain(undefined);
    },
  );

  test('a request that was lost while the application was being connected does not reach it', async () => {
    await rig.begin();
    await says(client, get(1, '/a'), get(3, '/lost'));
    news(client);
    rig.relay
      .carried(({ path }) => (path === '/lost' ? { message: 'lost' } : undefined))
      .pass()
      .goOn(() => true);
    expect(news(client)).toBe(
      text(encodeRstStream(1, 'refused_stream'), encodeRstStream(3, 'cancel'), encodeGoAway(3, 'no_error')),
    );
    rig.opening.resolve(application);
    await settled();
    expect([application.text, application.abortion !== undefined, client.isEnded]).toEqual(['', true, true]);
  });

  test('keeps no more settings than an application takes in its greeting', async () => {
    await rig.begin();
    let identifier = 0x100;
    const invented = (): Uint8Array =>
      encodeSettings(new Map(Array.from({ length: 64 }, () => [identifier++, 1] as const)));
    await says(client, ACK, ...Array.from({ length: 100 }, invented));
    await says(client, settingOf(SETTING.initialWindowSize, 77), settingOf(0x100, 2), get(1, '/a'));
    rig.opening.resolve(application);
    await settled();
    const greeting = Buffer.from(application.text, 'latin1').subarray(CLIENT_PREFACE.length);
    const told = parseSettings(greeting, { start: 9, end: 9 + greeting.readUIntBE(0, 3) });
    expect([told.get(SETTING.initialWindowSize), told.get(0x100)]).toEqual([77, 2]);
    expect(told.size).toBeLessThan(50);
  });

  test('lets others have their turn after a bounded time, where requests are dear to decide', async () => {
    await rig.begin();
    // Each decision takes 3 ms.
    const time = spyOn(judge.clock, 'monotonicMs').mockImplementation(() => judge.records.length * 3);
    await says(client, ...Array.from({ length: 7 }, (_, i) => get(2 * i + 1, '/denied')));
    expect(judge.records).toHaveLength(2);
    judge.clock.advance(0);
    expect(judge.records).toHaveLength(7);
    time.mockRestore();
  });

  test('reads nothing after other connections have used up the turn, until the next one', async () => {
    await rig.begin();
    rig.turns.use(5);
    await says(client, get(1, '/denied'), get(3, '/denied'));
    expect([judge.records.length, client.isPaused]).toEqual([0, true]);
    judge.clock.advance(0);
    await settled();
    expect([judge.records.length, client.isPaused]).toEqual([2, false]);
  });

  test('answers no more refused requests than the client reads', async () => {
    await rig.begin();
    client.hasRoom = false;
    const { requestsInATurn } = HTTP2_LIMITS;
    await says(client, ...Array.from({ length: 1000 }, (_, i) => get(2 * i + 1, '/denied')));
    for (let turn = 0; turn < 20; turn++) judge.clock.advance(0);
    expect(judge.records).toHaveLength(requestsInATurn);
    client.drains();
    expect(judge.records).toHaveLength(2 * requestsInATurn);
    client.hasRoom = true;
    judge.clock.advance(0);
    client.drains();
    for (let turn = 0; turn < 20; turn++) judge.clock.advance(0);
    expect(judge.records).toHaveLength(1000);
    expect(client.isPaused).toBe(false);
  });

  test('reads so many requests, and then others have their turn', async () => {
    await rig.begin();
    const count = HTTP2_LIMITS.requestsInATurn + 50;
    await says(client, ...Array.from({ length: count }, (_, i) => get(2 * i + 1, '/denied')));
    expect(judge.records).toHaveLength(HTTP2_LIMITS.requestsInATurn);
    expect(client.isPaused).toBe(true);
    judge.clock.advance(0);
    await settled();
    expect(judge.records).toHaveLength(count);
    expect(client.isPaused).toBe(false);
  });

  test('tells a client before its connection’s certificate ends, and takes no request that would not be answered', async () => {
    anew(60_000);
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    judge.clock.advance(57_000);
    expect(news(client)).toBe(text(encodeGoAway(MAX_31_BITS, 'no_error')));
    await says(client, get(3, '/b'));
    await says(application, headers(1, END, Buffer.of(0x88)));
    expect(news(client)).toBe(text(headers(1, END, Buffer.of(0x88))));
    judge.clock.advance(2500);
    expect(news(client)).toBe(text(encodeGoAway(3, 'no_error')));
    await says(client, get(5, '/c'));
    expect(news(client)).toBe(text(encodeRstStream(5, 'refused_stream')));
    expect(client.isEnded).toBe(false);
    await says(application, headers(3, END, Buffer.of(0x88)));
    expect([client.isEnded, application.isEnded]).toEqual([true, true]);
    expect(judge.outcomes).toEqual(['http /a policy_allow', 'http /b policy_allow']);
  });

  test('tells a client that the agent goes, once, and takes what is on its way before it ends', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    news(client);
    rig.relay.retire();
    rig.relay.retire();
    // Requests that waited for the connection are on their way.
    judge.clock.advance(999);
    expect(news(client)).toBe('');
    judge.clock.advance(1);
    expect(news(client)).toBe(text(encodeGoAway(MAX_31_BITS, 'no_error')));
    await says(client, get(3, '/b'));
    judge.clock.advance(3000);
    expect(news(client)).toBe(text(encodeGoAway(3, 'no_error')));
    await says(client, get(5, '/c'));
    expect(news(client)).toBe(text(encodeRstStream(5, 'refused_stream')));
    await says(application, headers(1, END, Buffer.of(0x88)), headers(3, END, Buffer.of(0x88)));
    expect([client.isEnded, application.isEnded]).toEqual([true, true]);
    expect(judge.outcomes).toEqual(['http /a policy_allow', 'http /b policy_allow']);
  });

  test('lets a client that was told to go elsewhere read its last answer, unless it goes on sending', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    judge.clock.advance(1000);
    rig.relay.retire();
    judge.clock.advance(3000);
    await says(application, headers(1, END, Buffer.of(0x88)));
    expect(client.isEnded).toBe(true);
    judge.clock.advance(LINGER_MS);
    // It reads, slowly.
    await says(client, encodeWindowUpdate(0, 1000));
    judge.clock.advance(CLOSE_MS / 2);
    expect([client.abortion, rig.closures]).toEqual([undefined, 0]);
    await says(client, Buffer.alloc(AFTERWORD_BYTES));
    expect([client.abortion !== undefined, rig.closures]).toEqual([true, 1]);
  });

  test.each([
    ['asks for nothing', [], PHASE_MS.idle],
    ['does not finish a header block', [headers(1, FLAG.endStream, Buffer.of(0x82))], PHASE_MS.head],
    [
      'does not finish a frame of one',
      [headers(1, END, Buffer.of(0x82, 0x86)).subarray(0, 10)],
      PHASE_MS.head,
    ],
  ])('ends a connection whose client %s', async (_, frames, phaseMs) => {
    await rig.begin();
    await says(client, ...frames);
    judge.clock.advance(phaseMs - 1);
    expect(client.isEnded).toBe(false);
    judge.clock.advance(1);
    expect(client.isEnded).toBe(true);
    judge.clock.advance(5000);
    expect([client.abortion !== undefined, rig.closures]).toEqual([true, 1]);
    expect(judge.clock.pending).toBe(0);
  });

  test.each(['application', 'client'] as const)(
    'does not count the time of a head whose client is held back, because the %s takes nothing, and counts it anew from then on',
    async (slow) => {
      await rig.begin();
      await says(client, get(1, '/a', FLAG.endHeaders));
      await rig.connect();
      rig[slow].hasRoom = false;
      const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(100) });
      await says(client, data, get(3, '/b').subarray(0, 10));
      await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)));
      expect(client.isPaused).toBe(true);
      judge.clock.advance(10 * PHASE_MS.head);
      expect(client.isEnded).toBe(false);
      rig[slow].hasRoom = true;
      rig[slow].drains();
      await settled();
      expect(client.isPaused).toBe(false);
      judge.clock.advance(PHASE_MS.head - 1);
      expect(client.isEnded).toBe(false);
      judge.clock.advance(1);
      expect(client.isEnded).toBe(true);
    },
  );

  test('ends with its client, and with its application', async () => {
    await rig.begin();
    client.ends();
    await settled();
    expect([client.isEnded, rig.opened]).toEqual([true, 0]);
    anew();
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    client.ends();
    await settled();
    expect(application.isEnded).toBe(true);
    await says(application, headers(1, END, Buffer.of(0x88)));
    expect(news(client)).toBe(text(headers(1, END, Buffer.of(0x88))));
    application.ends();
    await settled();
    expect([client.isEnded, client.text.includes('502')]).toEqual([true, false]);
  });

  test('does not wait for ever for a client to end in turn', async () => {
    await rig.begin();
    await says(client, get(1, '/a'));
    await rig.connect();
    await says(application, headers(1, END, Buffer.of(0x88)));
    application.ends();
    await settled();
    judge.clock.advance(CLOSE_MS - 1);
    client.drains();
    judge.clock.advance(CLOSE_MS - 1);
    expect([client.isEnded, client.abortion]).toEqual([true, undefined]);
    judge.clock.advance(1);
    expect([client.abortion, application.abortion]).not.toContain(undefined);
    expect([rig.closures, judge.clock.pending]).toEqual([1, 0]);
  });

  test('holds the client back while the application takes no more', async () => {
    await rig.begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await rig.connect();
    application.hasRoom = false;
    await says(client, encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(10) }));
    expect(client.isPaused).toBe(true);
    application.hasRoom = true;
    application.drains();
    expect(client.isPaused).toBe(false);
    client.hasRoom = false;
    await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)));
    expect([client.isPaused, application.isPaused]).toEqual([true, true]);
    client.hasRoom = true;
    client.drains();
    expect([client.isPaused, application.isPaused]).toEqual([false, false]);
  });
});
