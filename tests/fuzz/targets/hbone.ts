import { connectOf, dataOf, headOf, PeerSocket } from '../../../agent/proxy/fixtures/hbone-peer.ts';
import { HBONE_LIMITS } from '../../../agent/proxy/hbone/limits.ts';
import { HboneServer } from '../../../agent/proxy/hbone/server.ts';
import type { ServerOpening } from '../../../agent/proxy/mesh/server-opening.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings } from '../../../shared/wire/http2-settings.ts';
import { FakeClock } from '../../kit/fake-clock.ts';
import { fromHex } from '../seeds.ts';
import { hexWords, piecesOf, requireSame, requireThat, type FuzzTarget } from '../target.ts';

const LOCAL = { address: '10.0.0.2', port: 15_008 };
const HERE = '10.0.0.2:8080';
const SETTINGS = encodeSettings(new Map([[4, 100]]));
const END = FLAG.endHeaders | FLAG.endStream;

/** What a client of HBONE sends behind its preface: only what asks for our own address is let in, each stream gets one answer, and bytes come whole. */
export const target: FuzzTarget = {
  seeds: [
    Buffer.concat([
      SETTINGS,
      connectOf(1, HERE),
      dataOf(1, 'hello'),
      connectOf(3, '[::ffff:10.0.0.2]:80', END),
      encodeWindowUpdate(1, 70_000),
      dataOf(1, ' you', FLAG.endStream),
      encodeRstStream(3, 'cancel'),
    ]),
    Buffer.concat([
      SETTINGS,
      connectOf(1, '10.0.0.3:8080'),
      connectOf(3, 'web.shop:80'),
      headOf(5, [[':method', 'GET']]),
      connectOf(7, HERE),
      encodeFrame(FRAME.ping, 0, { payload: Buffer.alloc(8) }),
      encodeFrame(FRAME.data, 7, { flags: FLAG.padded, payload: Buffer.from('\u0002ab\0\0', 'latin1') }),
    ]),
    Buffer.concat([
      SETTINGS,
      headOf(1, [[':method', 'CONNECT']], 0),
      encodeFrame(FRAME.continuation, 1, {
        flags: FLAG.endHeaders,
        payload: fromHex('010d31302e302e302e323a38303830')[0] ?? Buffer.alloc(0),
      }),
      encodeSettings(new Map([[4, 0]])),
      encodeFrame(FRAME.goAway, 0, { payload: Buffer.alloc(8) }),
    ]),
  ],
  dictionary: hexWords(
    '0000000400000000',
    '000000040100000000',
    '000000010500000003',
    '000004030000000001',
    '00000408000000000000010000',
    '00000000010000000001',
    Buffer.from('CONNECT').toString('hex'),
    Buffer.from(':authority').toString('hex'),
    Buffer.from('[::1]:80').toString('hex'),
    Buffer.from('forwarded').toString('hex'),
  ),
  maxBytes: 2048,
  async check(input) {
    const whole = await serve([input]);
    const pieces = await serve(piecesOf(input));
    requireSame(pieces, whole, 'what comes in pieces');
    return `${whole.asked.slice(0, 4).join()} ${whole.streams.slice(0, 4).join()} ${whole.error}`;
  },
};

interface Served {
  /** Of each opening: whether it was looked at. */
  readonly asked: readonly string[];
  /** Of each stream: how often it was answered, how it ended, and how much came. */
  readonly streams: readonly string[];
  readonly error: string;
}

async function serve(pieces: readonly Buffer[]): Promise<Served> {
  const socket = new PeerSocket();
  const openings: ServerOpening[] = [];
  const received: number[] = [];
  const server = new HboneServer({
    socket,
    clock: new FakeClock(),
    openingMs: 1000,
    local: LOCAL,
    peer: { address: '10.0.0.1', port: 1 },
    target: parseSpiffeId('spiffe://example.org/web'),
    newId: () => '01900000-0000-4000-8000-000000000001',
    onOpening: (opening) => {
      received.push(0);
      answer(opening, openings.push(opening) - 1, received);
    },
    onIdle: () => undefined,
    onBroken: () => undefined,
    onClosed: () => undefined,
  });
  server.wire.received(CLIENT_PREFACE);
  for (const piece of pieces) server.wire.received(piece);
  // Small pieces that came in front of what breaks the connection reach the reader in a microtask, before the failure.
  await Promise.resolve();
  requireThat(openings.length <= HBONE_LIMITS.openStreams * 10, 'openings without end');
  return {
    asked: openings.map(({ refusal }) => refusal?.reason ?? 'open'),
    streams: streamsOf(socket).concat(received.map(String)),
    error: socket.errorOf(FRAME.goAway) ?? '',
  };
}

function answer(opening: ServerOpening, index: number, received: number[]): void {
  const { refusal, destination } = opening;
  if (refusal !== undefined) {
    opening.deny({ reason: refusal.reason, decisionId: '', message: '' });
    return;
  }
  requireSame(destination.address, LOCAL.address, 'the address of what is let in');
  requireThat(destination.port > 0 && destination.port < 65_536, 'the port of what is let in');
  const stream = opening.accept();
  stream.attach({
    onData: (bytes) => {
      received[index] = (received[index] ?? 0) + bytes.length;
      stream.write(bytes);
    },
    onEnd: () => stream.end(),
    onDrain: () => undefined,
    onClose: () => undefined,
  });
}

/** What the client is told of each stream; nothing may come behind GOAWAY for an error, nor a second answer. */
function streamsOf(socket: PeerSocket): string[] {
  const frames = socket.frames();
  const ids = new Set(frames.map(({ streamId }) => streamId));
  ids.delete(0);
  return [...ids].map((id) => {
    const heads = socket.of(FRAME.headers, id).length;
    requireThat(heads <= 1, 'a stream is answered twice');
    const isFirst = frames.find(({ streamId, type }) => streamId === id && type !== FRAME.windowUpdate);
    requireThat(
      socket.of(FRAME.data, id).length === 0 || isFirst?.type === FRAME.headers,
      'bytes come before the answer',
    );
    return `${id} ${heads} ${socket.errorOf(FRAME.rstStream, id) ?? ''}`;
  });
}
