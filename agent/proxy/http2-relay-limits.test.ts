import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { systemClock } from '../../shared/runtime/clock.ts';
import { encodeFields } from '../../shared/wire/hpack-encoder.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  HTTP2_ERROR,
  MAX_31_BITS,
  type Http2ErrorName,
} from '../../shared/wire/http2-frame.ts';
import { encodeSettings, parseSettings, SETTING } from '../../shared/wire/http2-settings.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { ByteStream } from './byte-stream.ts';
import { blockOf, RawHttp2Client, requestOf } from './fixtures/http2-raw-client.ts';
import { Http2Rig } from './fixtures/http2-rig.ts';
import { JudgeRig } from './fixtures/judge-rig.ts';
import { ScriptedStream, settled } from './fixtures/scripted-stream.ts';
import { HTTP2_LIMITS } from './http2-limits.ts';
import { Http2Relay } from './http2-relay.ts';
import { CLOSE_MS, PHASE_MS } from './http1-relay-timer.ts';

const END = FLAG.endHeaders | FLAG.endStream;
const ACK = encodeFrame(FRAME.settings, 0, { flags: FLAG.ack });
const headers = (streamId: number, flags: number, payload: Uint8Array): Uint8Array =>
  encodeFrame(FRAME.headers, streamId, { flags, payload });
const get = (streamId: number, path: string, flags = END): Uint8Array =>
  headers(streamId, flags, blockOf(requestOf(path)));
const settingOf = (identifier: number, value: number): Uint8Array =>
  encodeSettings(new Map([[identifier, value]]));
const text = (...frames: readonly Uint8Array[]): string => Buffer.concat(frames).toString('latin1');

describe('Http2Relay before an attacker', () => {
  let rig: Http2Rig;
  let client: RawHttp2Client;
  beforeEach(async () => {
    rig = await Http2Rig.start();
    rig.judge.allow = ({ http }) =>
      http?.path.startsWith('/denied') === true ? 'policy_deny' : 'policy_allow';
    client = RawHttp2Client.begin(rig.port);
  });
  afterEach(() => {
    client.end();
    rig.stop();
  });

  const part = (flags: number, bytes = 0): Uint8Array =>
    encodeFrame(FRAME.continuation, 1, { flags, payload: Buffer.alloc(bytes, 0x82) });
  const whole = blockOf(requestOf('/a'));

  test.each<[string, readonly Uint8Array[], Http2ErrorName]>([
    [
      'a header block in more pieces than anybody needs',
      [
        headers(1, FLAG.endStream, whole),
        ...Array.from({ length: HTTP2_LIMITS.continuations + 1 }, () => part(0)),
      ],
      'enhance_your_calm',
    ],
    [
      'a header block without end',
      [headers(1, FLAG.endStream, whole), ...Array.from({ length: 5 }, () => part(0, 16_384))],
      'enhance_your_calm',
    ],
    ['a frame within a header block', [headers(1, FLAG.endStream, whole), get(3, '/b')], 'protocol_error'],
    ['a header block that goes on unbegun', [part(FLAG.endHeaders)], 'protocol_error'],
    [
      'the block of another stream',
      [headers(1, 0, whole), encodeFrame(FRAME.continuation, 3, { flags: FLAG.endHeaders })],
      'protocol_error',
    ],
    ['HEADERS longer than a frame may be', [headers(1, END, Buffer.alloc(16_385, 0x82))], 'frame_size_error'],
    [
      'HEADERS shorter than their padding',
      [headers(1, END | FLAG.padded, Buffer.of(9, 0x82))],
      'protocol_error',
    ],
    [
      'a stream that depends on itself',
      [headers(1, END | FLAG.priority, Buffer.concat([Buffer.of(0, 0, 0, 1, 0), whole]))],
      'protocol_error',
    ],
    ['a stream of the server', [get(2, '/a')], 'protocol_error'],
    ['the stream 0', [get(0, '/a')], 'protocol_error'],
    ['a second request on a stream', [get(1, '/a'), get(1, '/b')], 'stream_closed'],
    [
      'a second request on a refused stream that has ended',
      [get(1, '/denied'), get(1, '/b')],
      'stream_closed',
    ],
    ['an older stream', [get(5, '/a'), get(3, '/b')], 'stream_closed'],
    [
      'a block that is no code',
      [headers(1, END, Buffer.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff))],
      'compression_error',
    ],
    ['SETTINGS on a stream', [encodeFrame(FRAME.settings, 1)], 'protocol_error'],
    ['SETTINGS cut off', [encodeFrame(FRAME.settings, 0, { payload: Buffer.alloc(5) })], 'frame_size_error'],
    [
      'an acknowledgement that says something',
      [encodeFrame(FRAME.settings, 0, { flags: FLAG.ack, payload: Buffer.alloc(6) })],
      'frame_size_error',
    ],
    ['acknowledgements of what nobody sent', [ACK, ACK], 'protocol_error'],
    ['PUSH_PROMISE', [encodeFrame(FRAME.pushPromise, 1, { payload: Buffer.alloc(4) })], 'protocol_error'],
    ['DATA before any request', [encodeFrame(FRAME.data, 1)], 'protocol_error'],
    ['a window of nothing', [encodeWindowUpdate(0, 0)], 'protocol_error'],
    [
      'a window beyond all bounds',
      [encodeWindowUpdate(0, MAX_31_BITS), encodeWindowUpdate(0, MAX_31_BITS)],
      'flow_control_error',
    ],
    [
      'a window of three bytes',
      [encodeFrame(FRAME.windowUpdate, 0, { payload: Buffer.alloc(3) })],
      'frame_size_error',
    ],
    [
      'a window of its own beyond all bounds',
      [settingOf(SETTING.initialWindowSize, 0x8000_0000)],
      'flow_control_error',
    ],
    ['a switch that is neither on nor off', [settingOf(SETTING.enablePush, 2)], 'protocol_error'],
    [
      'PRIORITY of the connection',
      [encodeFrame(FRAME.priority, 0, { payload: Buffer.alloc(5) })],
      'protocol_error',
    ],
    [
      'PRIORITY of four bytes',
      [encodeFrame(FRAME.priority, 1, { payload: Buffer.alloc(4) })],
      'frame_size_error',
    ],
    [
      'PRIORITY of a stream on itself',
      [encodeFrame(FRAME.priority, 1, { payload: Buffer.of(0, 0, 0, 1, 0) })],
      'protocol_error',
    ],
    ['a PING of seven bytes', [encodeFrame(FRAME.ping, 0, { payload: Buffer.alloc(7) })], 'frame_size_error'],
  ])('ends a connection with %s', async (_, frames, error) => {
    client.acknowledges = false;
    client.send(...frames);
    await client.closed();
    expect(client.errorOf(FRAME.goAway)).toBe(HTTP2_ERROR[error]);
    expect(rig.find('/b')).toBeUndefined();
    expect(rig.judge.outcomes.at(-1)).toBe('tcp protocol_error');
  });

  test('ends a connection that does not begin with SETTINGS', async () => {
    client.end();
    client = new RawHttp2Client(rig.port);
    client.send(CLIENT_PREFACE, get(1, '/a'));
    await client.closed();
    expect(client.errorOf(FRAME.goAway)).toBe(HTTP2_ERROR.protocol_error);
    expect(rig.seen).toEqual([]);
  });

  test('ends a connection whose requests are none, without end', async () => {
    client.end();
    // All within one second, however slow the machine is.
    rig.clock = { ...systemClock, monotonicMs: () => 0 };
    client = RawHttp2Client.begin(rig.port);
    const bad = Array.from({ length: 2 * HTTP2_LIMITS.resetsPerSecond }, (_, i) =>
      headers(2 * i + 1, END, blockOf(requestOf('/a', { Upper: 'x' }))),
    );
    client.send(...bad);
    await client.closed();
    expect(client.errorOf(FRAME.goAway)).toBe(HTTP2_ERROR.enhance_your_calm);
    expect(rig.seen).toEqual([]);
  });

  test('does not read a client that does not read its answers', async () => {
    client.socket.pause();
    let streamId = 1;
    let sentBytes = 0;
    const refusals = (): Uint8Array => {
      const frames = Array.from({ length: 500 }, () => {
        const frame = get(streamId, '/denied');
        streamId += 2;
        return frame;
      });
      return Buffer.concat(frames);
    };
    // Kernel and relay take some; then nothing more goes.
    await waitUntil('nothing more is taken', async () => {
      for (let i = 0; i < 200 && client.socket.writableLength < 1_000_000; i++) {
        const bytes = refusals();
        sentBytes += bytes.length;
        client.socket.write(bytes);
      }
      const waiting = client.socket.writableLength;
      const decided = rig.judge.records.length;
      await Bun.sleep(200);
      return (
        waiting >= 1_000_000 &&
        client.socket.writableLength === waiting &&
        rig.judge.records.length === decided
      );
    });
    expect(sentBytes).toBeLessThan(64 * 1024 * 1024);
    const before = rig.judge.records.length;
    client.socket.resume();
    await waitUntil('it goes on once the client reads', () => rig.judge.records.length > before);
  });
});

describe('Http2Relay, frame by frame', () => {
  let judge: JudgeRig;
  let client: ScriptedStream;
  let application: ScriptedStream;
  let relay: Http2Relay;
  let opening: PromiseWithResolvers<ByteStream>;
  let opened: number;
  let endsAtMs: number;
  let closures: number;

  beforeEach(() => {
    [judge, client, application] = [new JudgeRig(), new ScriptedStream(), new ScriptedStream()];
    opening = Promise.withResolvers();
    [opened, endsAtMs, closures] = [0, Infinity, 0];
    judge.allow = ({ http }) => (http?.path.startsWith('/denied') === true ? 'policy_deny' : 'policy_allow');
  });

  /** A client that has said its preface and SETTINGS. */
  async function begin(settings: Uint8Array = encodeFrame(FRAME.settings, 0)): Promise<void> {
    relay = new Http2Relay({
      client,
      openApplication: async () => {
        opened += 1;
        return await opening.promise;
      },
      judge: (http) => judge.judge.judge(encounter, judge.judge.newId(), http),
      refuse: (refusal) => judge.judge.refuse(encounter, refusal),
      clientCertBlock: encodeFields([{ name: 'x-forwarded-client-cert', value: 'us' }]),
      clock: judge.clock,
      endsAtMs,
      onDone: () => (closures += 1),
    });
    relay.start({ first: Buffer.concat([CLIENT_PREFACE, settings]) });
    await settled();
  }

  const encounter = {
    direction: 'inbound',
    caller: { spiffeId: null, address: '10.0.0.1', port: 1, certificateNotAfterMs: 0 },
    target: { spiffeId: null, address: '10.0.0.2', port: 80 },
    process: null,
  } as const;

  const says = async (from: ScriptedStream, ...frames: readonly Uint8Array[]): Promise<void> => {
    from.says(text(...frames));
    await settled();
  };
  /** What a stream was sent since the last time it was asked. */
  const seen = new WeakMap<ScriptedStream, number>();
  const news = (stream: ScriptedStream): string => {
    const before = seen.get(stream) ?? 0;
    seen.set(stream, stream.text.length);
    return stream.text.slice(before);
  };
  /** Connected, greeted, with its SETTINGS passed on. */
  async function connected(): Promise<void> {
    opening.resolve(application);
    await settled();
    await says(application, encodeFrame(FRAME.settings, 0), ACK);
    news(client);
    news(application);
  }

  test('speaks HTTP/2 alone until a request is allowed, and then tells the application everything in one greeting', async () => {
    await begin(
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
    expect([opened, application.text]).toEqual([0, '']);
    await says(client, get(3, '/a'));
    expect([opened, client.isPaused]).toEqual([1, true]);
    opening.resolve(application);
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
    await begin();
    await says(client, ACK, get(1, '/a'));
    opening.resolve(application);
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

  test('an answer of ours stands between the frames of the application, not within them', async () => {
    await begin();
    await says(client, get(1, '/a'));
    await connected();
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
    await begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await connected();
    await says(application, headers(1, 0, Buffer.of(0x88)));
    news(client);
    relay.reconsider(() => ({ message: 'lost' }));
    expect(news(application)).toBe(text(encodeRstStream(1, 'cancel')));
    const rest = encodeFrame(FRAME.continuation, 1, { flags: FLAG.endHeaders });
    const late = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(70) });
    expect(news(client)).toBe('');
    await says(application, rest, late, late);
    expect(news(client)).toBe(text(rest, encodeRstStream(1, 'cancel')));
    expect(news(application)).toBe(text(encodeWindowUpdate(0, 140)));
  });

  test('the application waits where our answer has taken the last of the window, until the client gives it back', async () => {
    await begin();
    await says(client, get(1, '/denied'));
    const body = JSON.stringify({
      error: 'denied',
      decision_id: 'id-1',
      reason: 'policy_deny',
      message: 'no rule of the policy allows it',
    });
    const owed = body.length + 1;
    await says(client, get(3, '/a'));
    await connected();
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
    await begin(encodeSettings(new Map([[SETTING.initialWindowSize, 10]])));
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
      await begin();
      await says(
        client,
        headers(1, END, blockOf(requestOf('/a', type === '' ? [] : { 'content-type': type }))),
      );
      news(client);
      opening.reject(new Error('nobody listens'));
      await settled();
      const answer = news(client);
      expect(answer).toContain(type === '' ? '502' : 'grpc-status\x0214');
      expect(answer.endsWith(text(encodeGoAway(1, 'no_error')))).toBe(true);
      expect(judge.outcomes).toEqual(['http /a policy_allow', 'http /a application_unreachable']);
      expect(client.isEnded).toBe(true);
      client.ends();
      client.closes();
      await settled();
      expect(closures).toBe(1);
    },
  );

  test('tells each stream when the application breaks off', async () => {
    await begin();
    await says(client, get(1, '/a'), get(3, '/b'));
    await connected();
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
    await begin();
    await says(client, get(1, '/a'));
    opening.resolve(application);
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
      [client, application, opening] = [new ScriptedStream(), new ScriptedStream(), Promise.withResolvers()];
      await begin();
      await says(client, get(1, '/a'));
      await connected();
      await says(application, ...frames);
      expect(application.abortion).toBeDefined();
    }
  });

  test('what a client sends on streams that were answered here does not reach the application', async () => {
    await begin();
    await says(
      client,
      get(1, '/denied'),
      get(3, '/a'),
      get(5, '/denied'),
      get(7, '/denied', FLAG.endHeaders),
    );
    await connected();
    await says(client, encodeRstStream(5, 'cancel'), encodeWindowUpdate(7, 9), encodeRstStream(7, 'cancel'));
    expect(news(application)).toBe('');
    // Of stream 1 it knows that it is over, since it knows of a later one.
    await says(client, encodeRstStream(1, 'cancel'), encodeWindowUpdate(3, 9));
    expect(news(application)).toBe(text(encodeRstStream(1, 'cancel'), encodeWindowUpdate(3, 9)));
  });

  test('a body that is still coming on a stream that the application has reset is thrown away', async () => {
    await begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await connected();
    await says(application, encodeRstStream(1, 'no_error'));
    expect(news(client)).toBe(text(encodeRstStream(1, 'no_error')));
    await says(client, encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(30) }), get(1, '/x'), get(3, '/b'));
    expect(news(client)).toBe(text(encodeWindowUpdate(0, 30)));
    expect(news(application)).toContain('/b');
    expect(application.text).not.toContain('/x');
  });

  /** Says many frames at once, with as many turns as it takes to read them. */
  async function saysMany(frames: readonly Uint8Array[]): Promise<void> {
    await says(client, ...frames);
    while (judge.clock.pending > 0 && client.isPaused) {
      judge.clock.advance(0);
      await settled();
    }
  }

  test('ends a connection that opens and resets streams without end, and takes as many a second as programs need', async () => {
    await begin();
    await says(client, get(1, '/a'));
    await connected();
    const pairs = (from: number, count: number): readonly Uint8Array[] =>
      Array.from({ length: count }, (_, i) => [
        get(from + 2 * i, '/a'),
        encodeRstStream(from + 2 * i, 'cancel'),
      ]).flat();
    await saysMany(pairs(3, HTTP2_LIMITS.resetsPerSecond));
    expect(client.isEnded).toBe(false);
    judge.clock.advance(1000);
    await saysMany(pairs(10_001, HTTP2_LIMITS.resetsPerSecond));
    expect(client.isEnded).toBe(false);
    await saysMany(pairs(20_001, 1));
    expect(client.isEnded).toBe(true);
    expect(client.text.endsWith(text(encodeGoAway(20_001, 'enhance_your_calm')))).toBe(true);
  });

  test('has no more streams open than it follows, whatever the client was told', async () => {
    await begin();
    await says(client, get(1, '/a'));
    await connected();
    const last = 2 * HTTP2_LIMITS.openStreams + 1;
    const requests = Array.from({ length: HTTP2_LIMITS.openStreams }, (_, i) => get(2 * i + 3, '/a'));
    await saysMany(requests);
    expect(news(client)).toBe(text(encodeRstStream(last, 'refused_stream')));
    expect(judge.records.at(-1)?.reason).toBe('overloaded');
    await says(application, headers(1, END, Buffer.of(0x88)));
    news(client);
    await says(client, get(last + 2, '/a'));
    expect(news(client)).toBe('');
  });

  test('nor heads of them beyond its memory', async () => {
    await begin();
    await says(client, get(1, '/a'));
    await connected();
    const value = 'v'.repeat(15_000);
    const count = Math.ceil(HTTP2_LIMITS.openHeadBytes / value.length) + 1;
    await saysMany(
      Array.from({ length: count }, (_, i) =>
        headers(2 * i + 3, END, blockOf(requestOf('/a', { large: value }))),
      ),
    );
    expect(news(client)).toContain(text(encodeRstStream(2 * count + 1, 'refused_stream')));
    expect(judge.records.at(-1)?.reason).toBe('overloaded');
  });

  test('nothing passes on streams that were cut, however many they are', async () => {
    await begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await connected();
    const count = 2 * HTTP2_LIMITS.endedStreams;
    await saysMany(Array.from({ length: count }, (_, i) => get(2 * i + 3, '/a', FLAG.endHeaders)));
    relay.reconsider(() => ({ message: 'lost' }));
    news(client);
    expect(news(application)).toEndWith(text(encodeRstStream(2 * count + 1, 'cancel')));
    const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(30) });
    await says(application, headers(1, FLAG.endHeaders, Buffer.of(0x88)), data);
    expect([news(client), news(application)]).toEqual(['', text(encodeWindowUpdate(0, 30))]);
    await says(client, data);
    expect([news(client), news(application)]).toEqual([text(encodeWindowUpdate(0, 30)), '']);
  });

  test('nor is what was lost kept from the application by a client that stops within a frame', async () => {
    await begin();
    await says(client, get(1, '/a', FLAG.endHeaders), get(3, '/lost'));
    await connected();
    const data = encodeFrame(FRAME.data, 1, { payload: Buffer.alloc(100) });
    const isLost = ({ path }: { readonly path: string }): { readonly message: string } | undefined =>
      path === '/lost' ? { message: 'lost' } : undefined;
    await says(client, data.subarray(0, 19));
    relay.reconsider(isLost);
    judge.clock.advance(HTTP2_LIMITS.cutMs - 1);
    await says(client, data.subarray(19), get(5, '/lost'), data.subarray(0, 19));
    expect(application.text).toContain(text(encodeRstStream(3, 'cancel')));
    judge.clock.advance(1);
    expect(client.abortion).toBeUndefined();
    relay.reconsider(isLost);
    judge.clock.advance(HTTP2_LIMITS.cutMs - 1);
    expect(client.abortion).toBeUndefined();
    judge.clock.advance(1);
    expect([client.abortion, application.abortion]).not.toContain(undefined);
    expect([closures, judge.clock.pending]).toEqual([1, 0]);
  });

  test('a request that was lost while the application was being connected does not reach it', async () => {
    await begin();
    await says(client, get(1, '/a'), get(3, '/lost'));
    news(client);
    relay.reconsider(({ path }) => (path === '/lost' ? { message: 'lost' } : undefined));
    expect(news(client)).toBe(
      text(encodeRstStream(1, 'refused_stream'), encodeRstStream(3, 'cancel'), encodeGoAway(3, 'no_error')),
    );
    opening.resolve(application);
    await settled();
    expect([application.text, application.abortion !== undefined, client.isEnded]).toEqual(['', true, true]);
  });

  test('keeps no more settings than an application takes in its greeting', async () => {
    await begin();
    let identifier = 0x100;
    const invented = (): Uint8Array =>
      encodeSettings(new Map(Array.from({ length: 64 }, () => [identifier++, 1] as const)));
    await says(client, ACK, ...Array.from({ length: 100 }, invented));
    await says(client, settingOf(SETTING.initialWindowSize, 77), settingOf(0x100, 2), get(1, '/a'));
    opening.resolve(application);
    await settled();
    const greeting = Buffer.from(application.text, 'latin1').subarray(CLIENT_PREFACE.length);
    const told = parseSettings(greeting, { start: 9, end: 9 + greeting.readUIntBE(0, 3) });
    expect([told.get(SETTING.initialWindowSize), told.get(0x100)]).toEqual([77, 2]);
    expect(told.size).toBeLessThan(50);
  });

  test('answers no more refused requests than the client reads', async () => {
    await begin();
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
    await begin();
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
    endsAtMs = 60_000;
    await begin();
    await says(client, get(1, '/a'));
    await connected();
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

  test.each([
    ['asks for nothing', [], PHASE_MS.idle],
    ['does not finish a header block', [headers(1, FLAG.endStream, Buffer.of(0x82))], PHASE_MS.head],
    [
      'does not finish a frame of one',
      [headers(1, END, Buffer.of(0x82, 0x86)).subarray(0, 10)],
      PHASE_MS.head,
    ],
  ])('ends a connection whose client %s', async (_, frames, phaseMs) => {
    await begin();
    await says(client, ...frames);
    judge.clock.advance(phaseMs - 1);
    expect(client.isEnded).toBe(false);
    judge.clock.advance(1);
    expect(client.isEnded).toBe(true);
    judge.clock.advance(5000);
    expect([client.abortion !== undefined, closures]).toEqual([true, 1]);
    expect(judge.clock.pending).toBe(0);
  });

  test('ends with its client, and with its application', async () => {
    await begin();
    client.ends();
    await settled();
    expect([client.isEnded, opened]).toEqual([true, 0]);
    [client, application, opening] = [new ScriptedStream(), new ScriptedStream(), Promise.withResolvers()];
    await begin();
    await says(client, get(1, '/a'));
    await connected();
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
    await begin();
    await says(client, get(1, '/a'));
    await connected();
    await says(application, headers(1, END, Buffer.of(0x88)));
    application.ends();
    await settled();
    judge.clock.advance(CLOSE_MS - 1);
    client.drains();
    judge.clock.advance(CLOSE_MS - 1);
    expect([client.isEnded, client.abortion]).toEqual([true, undefined]);
    judge.clock.advance(1);
    expect([client.abortion, application.abortion]).not.toContain(undefined);
    expect([closures, judge.clock.pending]).toEqual([1, 0]);
  });

  test('holds the client back while the application takes no more', async () => {
    await begin();
    await says(client, get(1, '/a', FLAG.endHeaders));
    await connected();
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
