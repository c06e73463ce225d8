import { describe, expect, spyOn, test } from 'bun:test';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  MAX_31_BITS,
  type Http2ErrorName,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings, parseSettings, SETTING } from '../../../shared/wire/http2-settings.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { CollectingReader } from '../fixtures/collecting-reader.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import { CLIENT_START, connectOf, dataOf, headOf, PeerSocket } from '../fixtures/hbone-peer.ts';
import { HBONE_LIMITS } from './limits.ts';
import { HboneServer } from './server.ts';
import { HTTP2_LIMITS } from '../http2/limits.ts';
import { Http2Output } from '../http2/output.ts';
import type { ServerOpening } from '../mesh/server-opening.ts';
import { CLOSE_MS } from '../relays/relay-timer.ts';
import { CLOSE_SOON_MS } from '../streams/last-bytes.ts';

const LOCAL = { address: '10.0.0.2', port: 15_008 };
const HERE = '10.0.0.2:8080';
const END = FLAG.endHeaders | FLAG.endStream;
const ACK = encodeFrame(FRAME.settings, 0, { flags: FLAG.ack });
const method = [':method', 'CONNECT'] as const;
const authority = [':authority', HERE] as const;
const PING = encodeFrame(FRAME.ping, 0, { payload: Buffer.alloc(8, 7) });

/** A server before a client of ours by hand; what is asked for stands in `openings`. */
class Rig {
  readonly clock = new FakeClock();
  readonly socket = new PeerSocket();
  readonly openings: ServerOpening[] = [];
  idle = 0;
  broken: string | undefined;
  closure: StreamFailure | undefined;
  onOpening = (opening: ServerOpening): void => void this.openings.push(opening);
  readonly server = new HboneServer({
    socket: this.socket,
    clock: this.clock,
    openingMs: 30_000,
    local: LOCAL,
    peer: { address: '10.0.0.1', port: 40_000 },
    target: parseSpiffeId('spiffe://td.test/ns/shop/sa/web'),
    newId: () => crypto.randomUUID(),
    onOpening: (opening) => this.onOpening(opening),
    onIdle: () => (this.idle += 1),
    onBroken: (why) => (this.broken = why),
    onClosed: (failure) => (this.closure = failure),
  });

  constructor(...frames: readonly Uint8Array[]) {
    this.says(CLIENT_START, ACK, ...frames);
  }

  says(...frames: readonly Uint8Array[]): void {
    this.server.wire.received(Buffer.concat(frames));
  }

  get opening(): ServerOpening {
    const opening = this.openings.at(-1);
    if (opening === undefined) throw new Error('Nothing was asked for');
    return opening;
  }

  /** Asks for a connection that is let in. */
  open(streamId: number): { readonly stream: ByteStream; readonly reader: CollectingReader } {
    this.says(connectOf(streamId, HERE));
    const stream = this.opening.accept();
    const reader = new CollectingReader();
    stream.attach(reader);
    return { stream, reader };
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 8; i++) await Promise.resolve();
}

const denial = {
  reason: 'policy_deny',
  decisionId: crypto.randomUUID(),
  message: 'No rule allows it',
} as const;

describe('HboneServer', () => {
  test('tells first what it takes', () => {
    const [settings, window] = new Rig().socket.frames();
    const { payload } = settings!;
    expect(Object.fromEntries(parseSettings(payload, { start: 0, end: payload.length }))).toEqual({
      [SETTING.maxConcurrentStreams]: 200,
      [SETTING.initialWindowSize]: 256 * 1024,
      [SETTING.maxHeaderListSize]: 16 * 1024,
    });
    expect(window).toMatchObject({ type: FRAME.windowUpdate, streamId: 0 });
    expect(window!.payload.readUInt32BE(0)).toBe(16 * 1024 * 1024 - 65_535);
  });

  test('takes a CONNECT of ztunnel for an opening, and answers it', () => {
    const rig = new Rig(connectOf(1, HERE));
    expect(rig.opening).toMatchObject({
      destination: { address: '10.0.0.2', port: 8080 },
      claimedSource: { address: '10.9.9.9', port: 41_000 },
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
    });
    expect(rig.opening.refusal).toBeUndefined();
    expect(rig.socket.headOf(1)).toBeUndefined();
    rig.opening.accept();
    expect(rig.socket.headOf(1)).toEqual({
      ':status': '200',
      baggage: 'k8s.namespace.name=shop,service.name=web',
    });
  });

  test.each([
    ['policy_deny', '401'],
    ['quarantined', '401'],
    ['no_policy', '401'],
    ['listener_not_registered', '503'],
    ['listener_unidentified', '503'],
    ['application_unreachable', '503'],
    ['overloaded', '503'],
    ['audit_unavailable', '503'],
  ] as const)('answers what is denied for %s with %s, the reason and the decision', (reason, status) => {
    const rig = new Rig(connectOf(1, HERE), connectOf(3, HERE, END));
    for (const opening of rig.openings) opening.deny({ ...denial, reason });
    for (const id of [1, 3]) {
      expect(rig.socket.headOf(id)).toEqual({
        ':status': status,
        'picket-reason': reason,
        'picket-decision-id': denial.decisionId,
      });
      expect(rig.socket.of(FRAME.headers, id)[0]!.flags).toBe(END);
    }
    // Whoever has not ended is told that nothing more is wanted.
    expect(rig.socket.errorOf(FRAME.rstStream, 1)).toBe('no_error');
    expect(rig.socket.errorOf(FRAME.rstStream, 3)).toBeUndefined();
    expect(rig.idle).toBe(1);
    expect(rig.closure).toBeUndefined();
  });

  test.each<[string, string, string]>([
    ['another address', '10.0.0.3:8080', '400'],
    ['another address of IPv6', '[fd00::3]:8080', '400'],
    ['loopback', '127.0.0.1:8080', '400'],
    ['a name', 'web.shop.svc.cluster.local:80', '503'],
    ['no port', '10.0.0.2', '400'],
    ['port 0', '10.0.0.2:0', '400'],
    ['a port beyond all', '10.0.0.2:65536', '400'],
    ['an address with user information', 'a@10.0.0.2:80', '400'],
    ['half an address', '10.0.0:80', '400'],
  ])('refuses what is asked for at %s, and has it recorded', (_, authority, status) => {
    const rig = new Rig(connectOf(1, authority));
    expect(rig.opening.refusal?.message).toBeString();
    rig.opening.deny(denial);
    expect(rig.socket.headOf(1)![':status']).toBe(status);
    expect(rig.closure).toBeUndefined();
  });

  test('knows its own address in other spellings', () => {
    const rig = new Rig(connectOf(1, '[::ffff:10.0.0.2]:8080'));
    expect(rig.opening.refusal).toBeUndefined();
    expect(rig.opening.destination).toEqual({ address: '10.0.0.2', port: 8080 });
  });

  test.each<[string, readonly (readonly [string, string])[]]>([
    ['no :method', [authority]],
    ['no :authority', [method]],
    ['an empty :authority', [method, [':authority', '']]],
    ['two :authority', [method, authority, authority]],
    ['two :method', [method, method, authority]],
    ['a :scheme', [method, authority, [':scheme', 'https']]],
    ['a :path', [method, authority, [':path', '/']]],
    ['a :protocol', [method, authority, [':protocol', 'websocket']]],
    ['a :status', [method, authority, [':status', '200']]],
    ['a pseudo-header field behind another', [method, ['a', 'b'], authority]],
    ['another host', [method, authority, ['host', '10.0.0.3:80']]],
    ['a content-length', [method, authority, ['content-length', '4']]],
    ['a field of the connection', [method, authority, ['connection', 'close']]],
    ['upper case', [method, authority, ['Baggage', 'x']]],
    ['a line break in a value', [method, authority, ['baggage', 'x\r\ny']]],
  ])('ends a stream with %s as no request, records it, and goes on', (_, fields) => {
    const rig = new Rig(headOf(1, fields), connectOf(3, HERE));
    expect(rig.openings[0]!.refusal?.reason).toBe('protocol_error');
    rig.openings[0]!.deny(denial);
    expect(rig.socket.errorOf(FRAME.rstStream, 1)).toBe('protocol_error');
    expect(rig.socket.headOf(1)).toBeUndefined();
    expect(rig.openings[1]!.refusal).toBeUndefined();
  });

  test('answers other methods with 400 and too many fields with 431', () => {
    const get = [[':method', 'GET'], [':scheme', 'http'], [':path', '/'], authority] as const;
    const crowd = Array.from({ length: HBONE_LIMITS.fields }, (_, i) => [`x-${i}`, 'y'] as const);
    const rig = new Rig(headOf(1, get), headOf(3, [method, authority, ...crowd]));
    for (const opening of rig.openings) opening.deny(denial);
    expect([rig.socket.headOf(1)![':status'], rig.socket.headOf(3)![':status']]).toEqual(['400', '431']);
  });

  test('carries bytes both ways, and what came before the answer', async () => {
    const rig = new Rig(connectOf(1, HERE), dataOf(1, 'early '));
    const stream = rig.opening.accept();
    const reader = new CollectingReader();
    stream.attach(reader);
    await settled();
    rig.says(dataOf(1, 'late'));
    stream.write(Buffer.from('answer'));
    expect([reader.text, rig.socket.dataOf(1).toString()]).toEqual(['early late', 'answer']);
  });

  test('sends what a relay of HTTP/2 gives it, whose buffer is shared by all relays', () => {
    const rig = new Rig();
    const { stream } = rig.open(1);
    const relay = new Http2Output((bytes) => void stream.write(bytes));
    relay.append(Buffer.from('0123456789'));
    relay.append(Buffer.from('abcdefghij'));
    relay.flush();
    expect(rig.socket.dataOf(1).toString()).toBe('0123456789abcdefghij');
  });

  test('takes padding off, and gives its window back', async () => {
    const rig = new Rig();
    const { reader } = rig.open(1);
    const padded = Buffer.concat([Buffer.of(200), Buffer.from('x'), Buffer.alloc(200)]);
    for (let i = 0; i < 2000; i++)
      rig.says(encodeFrame(FRAME.data, 1, { flags: FLAG.padded, payload: padded }));
    await settled();
    expect(reader.length).toBe(2000);
    expect(rig.closure).toBeUndefined();
  });

  test('one that is denied at once gets an answer and nothing else, if it has ended', () => {
    const rig = new Rig();
    rig.onOpening = (opening) => opening.deny(denial);
    rig.says(connectOf(1, HERE, END));
    expect(rig.socket.headOf(1)![':status']).toBe('401');
    expect(rig.socket.of(FRAME.rstStream, 1)).toEqual([]);
  });

  test('ends are half-closes, and a stream is over after both', async () => {
    const rig = new Rig();
    const { stream, reader } = rig.open(1);
    rig.says(dataOf(1, 'question', FLAG.endStream));
    await settled();
    expect([reader.text, reader.isEnded, reader.closure]).toEqual(['question', true, undefined]);
    stream.write(Buffer.from('answer'));
    stream.end();
    await settled();
    expect(reader.closure).toEqual({ failure: undefined });
    expect(rig.socket.of(FRAME.data, 1).at(-1)!.flags).toBe(FLAG.endStream);
    expect(rig.socket.of(FRAME.rstStream, 1)).toEqual([]);
    expect(rig.idle).toBe(1);
  });

  test('an abort is CONNECT_ERROR, and a reset of the peer is a failure, each of one stream alone', async () => {
    const rig = new Rig();
    const [first, second, third] = [rig.open(1), rig.open(3), rig.open(5)];
    first.stream.abort({ reason: 'policy_deny', message: 'The policy has changed' });
    rig.says(encodeRstStream(3, 'cancel'));
    await settled();
    expect(rig.socket.errorOf(FRAME.rstStream, 1)).toBe('connect_error');
    expect(second.reader.closure?.failure?.message).toBeString();
    expect(rig.socket.of(FRAME.rstStream, 3)).toEqual([]);
    rig.says(dataOf(1, 'lost'), dataOf(3, 'lost'), dataOf(5, 'kept'));
    expect(third.reader.text).toBe('kept');
    expect(rig.closure).toBeUndefined();
  });

  test('a peer that has said everything may end what it does not want to hear', async () => {
    const rig = new Rig();
    const { reader } = rig.open(1);
    rig.says(dataOf(1, 'all', FLAG.endStream), encodeRstStream(1, 'no_error'));
    await settled();
    expect([reader.text, reader.closure]).toEqual(['all', { failure: undefined }]);
  });

  test('sends no more than the windows of stream and connection take, in turns', () => {
    const rig = new Rig(encodeSettings(new Map([[SETTING.initialWindowSize, 50_000]])));
    const [first, second] = [rig.open(1), rig.open(3)];
    first.stream.write(Buffer.alloc(100_000, 1));
    second.stream.write(Buffer.alloc(100_000, 3));
    const sent = () => [1, 3].map((id) => rig.socket.dataOf(id).length);
    expect(sent()).toEqual([50_000, 15_535]);
    rig.says(encodeWindowUpdate(0, 20_000));
    expect(sent()).toEqual([50_000, 35_535]);
    rig.says(encodeWindowUpdate(1, 50_000), encodeWindowUpdate(0, 1_000_000));
    expect(sent()).toEqual([100_000, 50_000]);
    rig.says(encodeSettings(new Map([[SETTING.initialWindowSize, 20_000]])), encodeWindowUpdate(3, 30_000));
    // The window was made smaller than what had gone: it was below zero, and is at zero now.
    expect(sent()).toEqual([100_000, 50_000]);
    rig.says(encodeWindowUpdate(3, 50_000));
    expect(sent()).toEqual([100_000, 100_000]);
  });

  test('fills once what a window grew by in many crumbs, in one write', () => {
    const rig = new Rig(encodeSettings(new Map([[SETTING.initialWindowSize, 0]])));
    const { stream } = rig.open(1);
    stream.write(Buffer.from('0123456789'.repeat(100)));
    expect(rig.socket.of(FRAME.data, 1)).toEqual([]);
    const { writes } = rig.socket;
    rig.says(...Array.from({ length: 500 }, () => encodeWindowUpdate(1, 1)));
    expect(rig.socket.of(FRAME.data, 1).map(({ payload }) => payload.length)).toEqual([500]);
    expect(rig.socket.writes - writes).toBe(1);
    expect(rig.socket.dataOf(1).toString()).toBe('0123456789'.repeat(50));
  });

  test('sends what is answered to bytes that came together in one write, in its order', () => {
    const rig = new Rig();
    const { stream, reader } = rig.open(1);
    reader.onData = (bytes) => void stream.write(bytes);
    const { writes } = rig.socket;
    rig.says(dataOf(1, 'one '), PING, dataOf(1, 'two '), dataOf(1, 'three'));
    expect(rig.socket.writes - writes).toBe(1);
    const kinds = rig.socket.frames().slice(-3);
    expect(kinds.map(({ type }) => type)).toEqual([FRAME.ping, FRAME.data, FRAME.data]);
    expect(rig.socket.dataOf(1).toString()).toBe('one two three');
    // What is long leaves at once, behind what came before.
    rig.says(dataOf(1, 'a'), dataOf(1, Buffer.alloc(16_384, 'b')), dataOf(1, 'c'));
    expect(rig.socket.dataOf(1).toString()).toBe(`one two threea${'b'.repeat(16_384)}c`);
  });

  test('hands over together what came together in small pieces, of each stream, before the end behind it', async () => {
    const rig = new Rig();
    const readers = [1, 3].map((id) => rig.open(id).reader);
    const calls = readers.map((reader) => spyOn(reader, 'onData'));
    const pieces = Array.from({ length: 10_000 }, (_, i) => [dataOf(1, `${i % 10}`), dataOf(3, 'x')]).flat();
    rig.says(...pieces, dataOf(1, '', FLAG.endStream), dataOf(3, 'y'.repeat(2000)), dataOf(3, 'z'));
    for (const call of calls) expect(call.mock.calls.length).toBeLessThan(5);
    const [first, second] = readers;
    expect(first?.text).toBe('0123456789'.repeat(1000));
    expect(second?.text).toBe(`${'x'.repeat(10_000)}${'y'.repeat(2000)}z`);
    await settled();
    expect(readers.map(({ isEnded }) => isEnded)).toEqual([true, false]);
  });

  test('a reader that pauses holds its own stream back and no other', async () => {
    const rig = new Rig();
    const [held, free] = [rig.open(1), rig.open(3)];
    held.stream.pause();
    for (let i = 0; i < 16; i++) rig.says(dataOf(1, Buffer.alloc(16_384)));
    expect(rig.socket.of(FRAME.windowUpdate, 1)).toEqual([]);
    for (let i = 0; i < 100; i++) rig.says(dataOf(3, Buffer.alloc(16_384)));
    expect(free.reader.length).toBe(100 * 16_384);
    held.stream.resume();
    await settled();
    expect(held.reader.length).toBe(16 * 16_384);
    const given = rig.socket.of(FRAME.windowUpdate, 1).map(({ payload }) => payload.readUInt32BE(0));
    expect(given.reduce((sum, each) => sum + each, 0)).toBe(256 * 1024);
  });

  test('a failure reaches a reader that is paused at once, and gives back what it has not read', async () => {
    const rig = new Rig();
    for (let id = 1; id < 400; id += 2) {
      const { stream, reader } = rig.open(id);
      stream.pause();
      for (let i = 0; i < 16; i++) rig.says(dataOf(id, Buffer.alloc(16_384)));
      rig.says(encodeRstStream(id, 'cancel'));
      await settled();
      expect([reader.length, reader.closure?.failure === undefined]).toEqual([0, false]);
      // 200 streams in a second are as many as may be reset.
      if (id % 100 === 1) rig.clock.advance(1000);
    }
    expect(rig.closure).toBeUndefined();
    const given = rig.socket.of(FRAME.windowUpdate, 0).slice(1);
    expect(given.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)).toBeGreaterThan(40_000_000);
  });

  test('gives a window back once, where a stream fails while its reader is handed what came', async () => {
    const rig = new Rig();
    const rounds = 200;
    for (let id = 1; id < 2 * rounds; id += 2) {
      const { stream, reader } = rig.open(id);
      stream.pause();
      for (let i = 0; i < 16; i++) rig.says(dataOf(id, Buffer.alloc(16_384)));
      stream.resume();
      rig.says(encodeRstStream(id, 'cancel'));
      await settled();
      expect([reader.length, reader.closure?.failure === undefined]).toEqual([256 * 1024, false]);
      if (id % 100 === 1) rig.clock.advance(1000);
    }
    const given = rig.socket.of(FRAME.windowUpdate, 0).slice(1);
    const sum = given.reduce((total, { payload }) => total + payload.readUInt32BE(0), 0);
    expect(sum).toBeGreaterThan(40_000_000);
    expect(sum).toBeLessThanOrEqual(rounds * 256 * 1024);
  });

  test('what is aborted unread gives the window of the connection back', () => {
    const rig = new Rig();
    for (let id = 1; id < 400; id += 2) {
      const { stream } = rig.open(id);
      stream.pause();
      for (let i = 0; i < 16; i++) rig.says(dataOf(id, Buffer.alloc(16_384)));
      stream.abort();
    }
    expect(rig.closure).toBeUndefined();
    const given = rig.socket.of(FRAME.windowUpdate, 0).slice(1);
    expect(given.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)).toBeGreaterThan(40_000_000);
  });

  test('tells the peer to open nothing more, serves what crosses that, and closes after the last', async () => {
    const rig = new Rig();
    const { stream } = rig.open(1);
    rig.server.retire();
    expect(rig.socket.of(FRAME.goAway, 0)[0]!.payload.readUInt32BE(0)).toBe(MAX_31_BITS);
    const crossing = rig.open(3);
    const ping = rig.socket.of(FRAME.ping, 0).at(-1)!;
    rig.says(encodeFrame(FRAME.ping, 0, { flags: FLAG.ack, payload: ping.payload }));
    expect(rig.socket.of(FRAME.goAway, 0)[1]!.payload.readUInt32BE(0)).toBe(3);
    rig.says(connectOf(5, HERE));
    expect(rig.openings).toHaveLength(2);
    stream.abort();
    crossing.stream.end();
    rig.says(dataOf(3, '', FLAG.endStream));
    await settled();
    expect([rig.socket.isShut, rig.closure]).toEqual([true, undefined]);
    rig.server.wire.closed('it was ended');
    expect(rig.closure).toEqual({ message: 'The connection was closed' });
  });

  test('lets a peer say more on what crossed the last word, until it has heard of it', async () => {
    const rig = new Rig();
    const { reader } = rig.open(1);
    rig.server.retire();
    rig.clock.advance(HBONE_LIMITS.graceMs);
    rig.says(connectOf(3, HERE), dataOf(3, 'unheard'), encodeWindowUpdate(3, 9));
    rig.says(headOf(3, [['a', 'b']], END), encodeRstStream(3, 'cancel'), dataOf(1, 'on'));
    await settled();
    expect([rig.closure, reader.text, rig.openings.length]).toEqual([undefined, 'on', 1]);
    expect(rig.socket.of(FRAME.goAway, 0).at(-1)!.payload.readUInt32BE(0)).toBe(1);
    rig.says(encodeRstStream(5, 'cancel'));
    expect(rig.socket.errorOf(FRAME.goAway)).toBe('protocol_error');
  });

  test('one that must give way and carries nothing closes at once', () => {
    const rig = new Rig();
    rig.open(1).stream.abort();
    rig.server.giveWay();
    expect(rig.socket.of(FRAME.goAway, 0)[0]!.payload.readUInt32BE(0)).toBe(1);
    expect(rig.socket.isShut).toBe(true);
    rig.clock.advance(CLOSE_SOON_MS);
    expect([rig.socket.isTerminated, rig.closure]).toEqual([true, { message: 'The connection was closed' }]);
  });

  test('the end of an answer that waits for a slow network is not cut off by the close behind it', async () => {
    const rig = new Rig();
    const { stream } = rig.open(1);
    rig.says(dataOf(1, '', FLAG.endStream));
    rig.socket.isDeaf = true;
    stream.write(Buffer.alloc(10_000));
    stream.end();
    rig.server.retire();
    rig.clock.advance(HBONE_LIMITS.graceMs);
    for (let ms = 0; ms < CLOSE_MS; ms += HBONE_LIMITS.silenceMs) {
      // It takes something now and then, and has nothing to say.
      rig.clock.advance(HBONE_LIMITS.silenceMs);
      rig.server.wire.drained();
    }
    expect([rig.socket.isTerminated, rig.closure]).toEqual([false, undefined]);
    rig.socket.isDeaf = false;
    rig.server.wire.drained();
    expect(rig.socket.of(FRAME.data, 1).at(-1)).toMatchObject({ flags: FLAG.endStream });
    expect(rig.socket.isShut).toBe(true);
  });

  test('a stream is over when its end has left, and one that is cut before takes along what has not', async () => {
    const rig = new Rig(encodeWindowUpdate(0, 1 << 20), connectOf(1, HERE, END), connectOf(3, HERE, END));
    rig.says(...[1, 3].map((id) => encodeWindowUpdate(id, 1 << 20)));
    const [first, second] = rig.openings.map((opening) => ({
      stream: opening.accept(),
      reader: new CollectingReader(),
    }));
    rig.socket.isDeaf = true;
    for (const { stream, reader } of [first!, second!]) {
      stream.attach(reader);
      for (let i = 0; i < 4; i++) stream.write(Buffer.alloc(30_000, 'x'));
      stream.end();
    }
    await settled();
    expect([first!.reader.closure, second!.reader.closure, rig.idle]).toEqual([undefined, undefined, 0]);
    second!.stream.abort();
    rig.socket.isDeaf = false;
    rig.server.wire.drained();
    await settled();
    expect([first!.reader.closure, rig.idle]).toEqual([{ failure: undefined }, 1]);
    expect([rig.socket.dataOf(1).length, rig.socket.of(FRAME.data, 1).at(-1)!.flags]).toEqual([
      120_000,
      FLAG.endStream,
    ]);
    expect(rig.socket.of(FRAME.data, 3)).toEqual([]);
    expect(rig.socket.errorOf(FRAME.rstStream, 3)).toBe('connect_error');
  });

  test('a peer that does not answer the question whether it has heard is not waited for', () => {
    const rig = new Rig();
    rig.server.retire();
    rig.clock.advance(HBONE_LIMITS.graceMs);
    expect(rig.socket.isShut).toBe(true);
    rig.clock.advance(CLOSE_SOON_MS);
    expect(rig.socket.isTerminated).toBe(true);
  });

  test('a connection whose peer goes away ends with its last stream', async () => {
    const rig = new Rig();
    const { stream } = rig.open(1);
    rig.says(encodeGoAway(0, 'no_error'));
    expect(rig.closure).toBeUndefined();
    stream.abort();
    expect(rig.socket.isShut).toBe(true);
  });

  test('asks a silent peer for a sign of life, and lets go of one that gives none', () => {
    const rig = new Rig();
    rig.open(1);
    rig.clock.advance(10_000);
    expect(rig.socket.of(FRAME.ping, 0)).toHaveLength(1);
    rig.says(encodeFrame(FRAME.ping, 0, { flags: FLAG.ack, payload: Buffer.alloc(8) }));
    rig.clock.advance(20_000);
    expect(rig.closure).toBeUndefined();
    rig.clock.advance(20_000);
    expect(rig.broken).toBe('it gave no sign of life');
    expect(rig.socket.isTerminated).toBe(true);
  });

  test('answers what nobody decides in time, and counts it until somebody does', () => {
    const rig = new Rig(connectOf(1, HERE));
    rig.clock.advance(25_000);
    rig.says(PING);
    rig.clock.advance(5000);
    expect(rig.socket.headOf(1)).toMatchObject({ ':status': '503', 'picket-reason': 'overloaded' });
    rig.opening.deny(denial);
    expect(rig.socket.of(FRAME.headers, 1)).toHaveLength(1);
  });

  test('what is let in after that fails', async () => {
    const rig = new Rig(connectOf(1, HERE), dataOf(1, 'early'));
    rig.clock.advance(25_000);
    rig.says(PING);
    rig.clock.advance(5000);
    const reader = new CollectingReader();
    rig.opening.accept().attach(reader);
    await settled();
    expect([reader.text, reader.closure?.failure?.reason]).toEqual(['', 'overloaded']);
    expect(rig.socket.of(FRAME.headers, 1)).toHaveLength(1);
  });

  test('a stream that its peer gave up is told to whoever decides, and fails when it is let in after all', async () => {
    const rig = new Rig(connectOf(1, HERE));
    let isTold = false;
    rig.opening.onAbandoned(() => (isTold = true));
    rig.says(encodeRstStream(1, 'cancel'));
    expect(isTold).toBe(true);
    const reader = new CollectingReader();
    rig.opening.accept().attach(reader);
    await settled();
    expect(reader.closure?.failure).toBeDefined();
    expect(rig.socket.headOf(1)).toBeUndefined();
  });
});

describe('HboneServer before an attacker', () => {
  test('takes so many streams at once, given-up ones too until they are decided', () => {
    const rig = new Rig();
    const ids = Array.from({ length: HBONE_LIMITS.openStreams }, (_, i) => 2 * i + 1);
    for (const id of ids) rig.says(connectOf(id, HERE), encodeRstStream(id, 'cancel'));
    rig.says(connectOf(401, HERE));
    expect(rig.openings).toHaveLength(HBONE_LIMITS.openStreams);
    expect(rig.socket.errorOf(FRAME.rstStream, 401)).toBe('refused_stream');
    rig.openings[0]!.deny(denial);
    rig.openings[1]!.accept();
    rig.says(connectOf(403, HERE), connectOf(405, HERE), connectOf(407, HERE));
    expect(rig.openings).toHaveLength(HBONE_LIMITS.openStreams + 2);
    expect(rig.socket.errorOf(FRAME.rstStream, 407)).toBe('refused_stream');
  });

  test('takes no more at once than may be open, however fast it denies them', () => {
    const rig = new Rig();
    rig.onOpening = (opening) => {
      rig.openings.push(opening);
      opening.deny(denial);
    };
    const ask = (from: number, count: number): void =>
      rig.says(...Array.from({ length: count }, (_, i) => connectOf(from + 2 * i, HERE, END)));
    ask(1, 1000);
    expect(rig.openings.length).toBe(HBONE_LIMITS.openStreams);
    expect(rig.socket.errorOf(FRAME.rstStream, 1 + 2 * HBONE_LIMITS.openStreams)).toBe('refused_stream');
    ask(2001, 100);
    expect(rig.openings.length).toBe(HBONE_LIMITS.openStreams + 100);
    ask(2201, 10_000);
    expect(rig.closure).toMatchObject({ reason: 'protocol_error' });
    expect(rig.openings.length).toBe(2 * HBONE_LIMITS.openStreams + 100);
  });

  test('ends a peer that opens and resets without end', () => {
    const rig = new Rig();
    for (let id = 1; id < 20_000 && rig.closure === undefined; id += 2) {
      rig.says(connectOf(id, HERE), encodeRstStream(id, 'cancel'));
      rig.opening.deny(denial);
    }
    expect(rig.socket.errorOf(FRAME.goAway)).toBe('enhance_your_calm');
    expect(rig.openings.length).toBeLessThanOrEqual(HTTP2_LIMITS.resetsPerSecond + 1);
  });

  test('ends a peer that asks for more streams than it may, again and again', () => {
    const rig = new Rig();
    for (let id = 1; id < 20_000 && rig.closure === undefined; id += 2) rig.says(connectOf(id, HERE));
    expect(rig.openings).toHaveLength(HBONE_LIMITS.openStreams);
    expect(rig.socket.errorOf(FRAME.goAway)).toBe('enhance_your_calm');
  });

  const flood = (frame: Uint8Array): readonly Uint8Array[] =>
    Array.from({ length: HBONE_LIMITS.idleFramesPerSecond + 1 }, () => frame);
  const priority = encodeFrame(FRAME.priority, 9, { payload: Buffer.alloc(5) });
  test.each<[string, readonly Uint8Array[]]>([
    ['SETTINGS', flood(encodeSettings(new Map()))],
    ['acknowledgements', flood(ACK)],
    ['PING', flood(PING)],
    ['PRIORITY', flood(priority)],
    ['unknown frames', flood(encodeFrame(0xee, 0))],
    ['empty DATA', [connectOf(1, HERE), ...flood(dataOf(1, ''))]],
    [
      'CONTINUATION',
      [
        headOf(1, [method], 0),
        ...Array.from({ length: HTTP2_LIMITS.continuations + 1 }, () =>
          encodeFrame(FRAME.continuation, 1, { payload: Buffer.alloc(0) }),
        ),
      ],
    ],
    [
      'a header block without end',
      [
        headOf(1, [method], 0),
        ...Array.from({ length: 5 }, () =>
          encodeFrame(FRAME.continuation, 1, { payload: Buffer.alloc(16_384, 0x82) }),
        ),
      ],
    ],
  ])('ends a flood of %s', (_, frames) => {
    const rig = new Rig(...frames);
    expect(rig.socket.errorOf(FRAME.goAway)).toBe('enhance_your_calm');
    expect(rig.closure?.reason).toBe('protocol_error');
  });

  test('ends a peer that has what waits sent in crumbs, and not one that gives back crumbs of a wide window', () => {
    const rig = new Rig();
    const { stream } = rig.open(1);
    const crumbs = flood(encodeWindowUpdate(1, 1));
    stream.write(Buffer.from('small'));
    for (const crumb of crumbs) rig.says(crumb);
    expect(rig.closure).toBeUndefined();
    stream.write(Buffer.alloc(200_000));
    for (const crumb of crumbs) rig.says(crumb);
    expect(rig.socket.errorOf(FRAME.goAway)).toBe('enhance_your_calm');
  });

  test('ends a peer that asks and does not read', () => {
    const rig = new Rig();
    const { stream } = rig.open(1);
    rig.says(encodeWindowUpdate(0, 100_000_000), encodeWindowUpdate(1, 100_000_000));
    rig.socket.isDeaf = true;
    expect(stream.write(Buffer.alloc(2_000_000))).toBe(false);
    for (let i = 0; i < 100_000 && rig.closure === undefined; i++) {
      rig.says(PING);
      if (i % 500 === 0) rig.clock.advance(1000);
    }
    expect(rig.closure?.message).toBe('The other host asks and does not read');
  });

  test('holds back what a peer that does not read is to get', () => {
    const rig = new Rig();
    rig.says(encodeWindowUpdate(0, MAX_31_BITS - 65_535));
    const { stream, reader } = rig.open(1);
    rig.says(encodeWindowUpdate(1, MAX_31_BITS - 65_535));
    rig.socket.isDeaf = true;
    while (stream.write(Buffer.alloc(64 * 1024))) {
      // Until it says to stop.
    }
    const before = reader.drains;
    rig.socket.isDeaf = false;
    rig.server.wire.drained();
    expect(reader.drains).toBe(before + 1);
  });

  test.each<[string, readonly Uint8Array[], Http2ErrorName]>([
    ['a stream of ours', [connectOf(2, HERE)], 'protocol_error'],
    ['the stream 0', [connectOf(0, HERE)], 'protocol_error'],
    ['an older stream', [connectOf(5, HERE), connectOf(3, HERE)], 'protocol_error'],
    ['DATA before any request', [dataOf(1, 'x')], 'protocol_error'],
    ['DATA on the stream 0', [dataOf(0, 'x')], 'protocol_error'],
    ['a window of what never was', [encodeWindowUpdate(7, 1)], 'protocol_error'],
    ['a reset of what never was', [encodeRstStream(7, 'cancel')], 'protocol_error'],
    ['SETTINGS on a stream', [encodeFrame(FRAME.settings, 1)], 'protocol_error'],
    ['SETTINGS cut off', [encodeFrame(FRAME.settings, 0, { payload: Buffer.alloc(5) })], 'frame_size_error'],
    [
      'an acknowledgement that says something',
      [encodeFrame(FRAME.settings, 0, { flags: FLAG.ack, payload: Buffer.alloc(6) })],
      'frame_size_error',
    ],
    [
      'PING of another length',
      [encodeFrame(FRAME.ping, 0, { payload: Buffer.alloc(7) })],
      'frame_size_error',
    ],
    ['GOAWAY cut off', [encodeFrame(FRAME.goAway, 0, { payload: Buffer.alloc(7) })], 'frame_size_error'],
    ['PUSH_PROMISE', [encodeFrame(FRAME.pushPromise, 1, { payload: Buffer.alloc(4) })], 'protocol_error'],
    ['a frame within a header block', [headOf(1, [method], 0), PING], 'protocol_error'],
    [
      'the block of another stream',
      [headOf(1, [method], 0), encodeFrame(FRAME.continuation, 3)],
      'protocol_error',
    ],
    ['a block that goes on unbegun', [encodeFrame(FRAME.continuation, 1)], 'protocol_error'],
    ['a frame that is too long', [dataOf(1, Buffer.alloc(16_385))], 'frame_size_error'],
    [
      'an unknown frame that is too long',
      [encodeFrame(0xee, 0, { payload: Buffer.alloc(16_385) })],
      'frame_size_error',
    ],
    [
      'DATA shorter than its padding',
      [connectOf(1, HERE), encodeFrame(FRAME.data, 1, { flags: FLAG.padded, payload: Buffer.of(9, 1) })],
      'protocol_error',
    ],
    [
      'a block that is no code',
      [encodeFrame(FRAME.headers, 1, { flags: END, payload: Buffer.alloc(6, 0xff) })],
      'compression_error',
    ],
    ['a window of the connection beyond all', [encodeWindowUpdate(0, MAX_31_BITS)], 'flow_control_error'],
    ['a window of the connection of nothing', [encodeWindowUpdate(0, 0)], 'protocol_error'],
    [
      'SETTINGS with a window beyond all',
      [encodeSettings(new Map([[SETTING.initialWindowSize, MAX_31_BITS + 1]]))],
      'flow_control_error',
    ],
    [
      'SETTINGS that push a window beyond all',
      [
        connectOf(1, HERE),
        encodeWindowUpdate(1, MAX_31_BITS - 65_535),
        encodeSettings(new Map([[SETTING.initialWindowSize, 65_536]])),
      ],
      'flow_control_error',
    ],
  ])('ends the connection of a peer that sends %s', (_, frames, error) => {
    const rig = new Rig(...frames);
    expect(rig.socket.errorOf(FRAME.goAway)).toBe(error);
    expect(rig.closure).toBeDefined();
    expect(rig.socket.isShut).toBe(true);
  });

  test.each<[string, readonly Uint8Array[], Http2ErrorName]>([
    ['trailers', [headOf(1, [['a', 'b']], END)], 'protocol_error'],
    ['a window of nothing', [encodeWindowUpdate(1, 0)], 'protocol_error'],
    ['a window beyond all', [encodeWindowUpdate(1, MAX_31_BITS)], 'flow_control_error'],
    ['DATA behind its end', [dataOf(1, 'x', FLAG.endStream), dataOf(1, 'y')], 'stream_closed'],
    [
      'more than its window',
      Array.from({ length: 17 }, () => dataOf(1, Buffer.alloc(16_384))),
      'flow_control_error',
    ],
  ])('ends a stream alone on which come %s', async (_, frames, error) => {
    const rig = new Rig();
    const [bad, good] = [rig.open(1), rig.open(3)];
    bad.stream.pause();
    rig.says(...frames);
    await settled();
    expect(rig.socket.errorOf(FRAME.rstStream, 1)).toBe(error);
    bad.stream.resume();
    await settled();
    expect(bad.reader.closure?.failure).toBeDefined();
    rig.says(dataOf(3, 'on'));
    expect(good.reader.text).toBe('on');
  });

  test('ends a connection on which comes more than its window', () => {
    const rig = new Rig();
    for (let id = 1; id < 200 && rig.closure === undefined; id += 2) {
      rig.open(id).stream.pause();
      for (let i = 0; i < 16; i++) rig.says(dataOf(id, Buffer.alloc(16_384)));
    }
    expect(rig.socket.errorOf(FRAME.goAway)).toBe('flow_control_error');
  });

  test.each([
    ['nothing like it', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['half a preface', Buffer.concat([CLIENT_PREFACE.subarray(0, 20), PING, PING])],
    ['no SETTINGS', Buffer.concat([CLIENT_PREFACE, PING])],
    ['an acknowledgement first', Buffer.concat([CLIENT_PREFACE, ACK])],
  ])('ends a peer that begins with %s', (_, bytes) => {
    const rig = new Rig();
    const fresh = new PeerSocket();
    const told: string[] = [];
    new HboneServer({
      socket: fresh,
      clock: rig.clock,
      openingMs: 1,
      local: LOCAL,
      peer: LOCAL,
      target: parseSpiffeId('spiffe://td.test/x'),
      newId: () => '',
      onOpening: () => told.push('opening'),
      onIdle: () => undefined,
      onBroken: () => undefined,
      onClosed: () => told.push('closed'),
    }).wire.received(bytes);
    expect(told).toEqual(['closed']);
    expect(fresh.errorOf(FRAME.goAway)).toBe('protocol_error');
  });

  test('reads the same however its bytes are cut', async () => {
    const rig = new Rig();
    const bytes = Buffer.concat([
      connectOf(1, HERE),
      dataOf(1, 'hello'),
      connectOf(3, HERE),
      dataOf(1, ' you', FLAG.endStream),
    ]);
    for (const byte of bytes) rig.says(Buffer.of(byte));
    const reader = new CollectingReader();
    rig.openings[0]!.accept().attach(reader);
    await settled();
    expect([rig.openings.length, reader.text, reader.isEnded]).toEqual([2, 'hello you', true]);
  });
});
