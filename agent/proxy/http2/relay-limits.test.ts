import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { systemClock } from '../../../shared/runtime/clock.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  HTTP2_ERROR,
  MAX_31_BITS,
  type Http2ErrorName,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings, SETTING } from '../../../shared/wire/http2-settings.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { blockOf, RawHttp2Client, requestOf } from '../fixtures/http2-raw-client.ts';
import { Http2Rig } from '../fixtures/http2-rig.ts';
import { ACK, END, get, headers } from '../fixtures/scripted-http2.ts';
import { HTTP2_LIMITS } from './limits.ts';

const settingOf = (identifier: number, value: number): Uint8Array =>
  encodeSettings(new Map([[identifier, value]]));

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
    ['DATA of the connection', [get(1, '/a'), encodeFrame(FRAME.data, 0)], 'protocol_error'],
    ['DATA on a stream to come', [get(1, '/a'), encodeFrame(FRAME.data, 3)], 'protocol_error'],
    ['DATA on a stream of the server', [get(3, '/a'), encodeFrame(FRAME.data, 2)], 'protocol_error'],
    ['the reset of a stream to come', [get(1, '/a'), encodeRstStream(3, 'cancel')], 'protocol_error'],
    [
      'a reset of three bytes',
      [get(1, '/a'), encodeFrame(FRAME.rstStream, 1, { payload: Buffer.alloc(3) })],
      'frame_size_error',
    ],
    ['a window of a stream to come', [get(1, '/a'), encodeWindowUpdate(3, 9)], 'protocol_error'],
    [
      'a window of a stream of three bytes',
      [get(1, '/a'), encodeFrame(FRAME.windowUpdate, 1, { payload: Buffer.alloc(3) })],
      'frame_size_error',
    ],
    [
      'a PING on a stream',
      [get(1, '/a'), encodeFrame(FRAME.ping, 1, { payload: Buffer.alloc(8) })],
      'protocol_error',
    ],
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
    client.end();
    rig.kernelBytes = 16 * 1024;
    client = RawHttp2Client.begin(rig.port);
    client.socket.pause();
    // Room for the bodies of all answers: what fills up is what stands between both, not the window.
    client.send(encodeWindowUpdate(0, 1 << 30));
    const block = blockOf(requestOf('/denied', { long: 'v'.repeat(1000) }));
    let streamId = 1;
    let sentBytes = 0;
    const refusals = (): Uint8Array =>
      Buffer.concat(Array.from({ length: 50 }, () => headers((streamId += 2), END, block)));
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
