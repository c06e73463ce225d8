import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  connect,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import { encodeFrame, FLAG, FRAME, HTTP2_ERROR } from '../../../shared/wire/http2-frame.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import { blockOf, RawHttp2Client, requestOf } from '../fixtures/http2-raw-client.ts';
import { Http2Rig } from '../fixtures/http2-rig.ts';

const OWNED = 'x-forwarded-client-cert';
const OWN_VALUE = 'By=us;URI=spiffe://example.org/web';

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

const again = (): RawHttp2Client => {
  client.end();
  return (client = RawHttp2Client.begin(rig.port));
};

describe('Http2Relay', () => {
  test('passes an allowed request with the caller’s identity in it, and its answer', async () => {
    client.request(1, blockOf(requestOf('/a', { accept: 'x' })));
    await client.ended(1);
    expect([client.statusOf(1), client.bodyOf(1)]).toEqual(['200', 'ok']);
    const { headers } = await rig.sees('/a');
    expect(headers).toMatchObject({ accept: 'x', ':authority': 'shop', [OWNED]: OWN_VALUE });
    expect(rig.judge.records).toMatchObject([
      { protocol: 'http', method: 'GET', path: '/a', decision: 'allow', reason: 'policy_allow' },
    ]);
  });

  test('answers a denied request as HTTP/1.1 does, and does not connect the application for it', async () => {
    client.request(1, blockOf(requestOf('/denied?x')));
    await client.ended(1);
    const body = `{"error":"denied","decision_id":"id-1","reason":"policy_deny","message":"no rule of the policy allows it"}\n`;
    expect(client.headsOf(1)).toEqual([
      {
        ':status': '403',
        'content-type': 'application/json',
        'content-length': String(body.length),
        'cache-control': 'no-store',
        server: 'picket',
      },
    ]);
    expect(client.bodyOf(1)).toBe(body);
    client.request(3, blockOf(requestOf('/denied', {}, 'HEAD')));
    await client.ended(3);
    expect([client.statusOf(3), client.bodyOf(3)]).toEqual(['403', '']);
    expect(rig.seen).toEqual([]);
    expect(rig.judge.outcomes).toEqual(['http /denied?* policy_deny', 'http /denied policy_deny']);
  });

  test('answers gRPC with PERMISSION_DENIED in trailers alone, whatever body is on its way', async () => {
    const fields = requestOf(
      '/denied/x',
      { 'content-type': 'application/grpc+proto', te: 'trailers' },
      'POST',
    );
    client.request(1, blockOf(fields), 0);
    client.data(1, Buffer.alloc(20));
    await client.ended(1);
    expect(client.headsOf(1)).toEqual([
      {
        ':status': '200',
        'content-type': 'application/grpc',
        'grpc-status': '7',
        'grpc-message': 'no rule of the policy allows it',
        'picket-decision-id': 'id-1',
        'picket-reason': 'policy_deny',
      },
    ]);
    expect(client.bodyOf(1)).toBe('');
    await waitUntil(
      'the stream is given up',
      () => client.errorOf(FRAME.rstStream, 1) === HTTP2_ERROR.no_error,
    );
  });

  test('decides each of many streams, and disturbs none by refusing others', async () => {
    const ids = Array.from({ length: 300 }, (_, i) => 2 * i + 1);
    for (const id of ids) client.request(id, blockOf(requestOf(id % 3 === 0 ? `/denied${id}` : `/a${id}`)));
    await waitUntil('all have ended', () => ids.every((id) => client.hasEnded(id)));
    expect(ids.filter((id) => client.statusOf(id) !== (id % 3 === 0 ? '403' : '200'))).toEqual([]);
    expect(rig.seen.length).toBe(ids.filter((id) => id % 3 !== 0).length);
    expect(client.of(FRAME.goAway)).toEqual([]);
  });

  test.each([false, true])(
    'works the same where the application is connected already: %p',
    async (isEager) => {
      rig.isEager = isEager;
      again();
      client.request(1, blockOf(requestOf('/denied')));
      client.request(3, blockOf(requestOf('/a')));
      await Promise.all([client.ended(1), client.ended(3)]);
      expect([client.statusOf(1), client.statusOf(3), client.bodyOf(3)]).toEqual(['403', '200', 'ok']);
      await waitUntil('the SETTINGS are acknowledged', () =>
        client.of(FRAME.settings).some(({ flags }) => flags === FLAG.ack),
      );
      expect(client.of(FRAME.settings).filter(({ flags }) => flags === FLAG.ack)).toHaveLength(1);
    },
  );

  test('removes forged identities from header fields and trailers, whole and in pieces', async () => {
    const forged: (readonly [string, string])[] = [
      [OWNED, 'URI=spiffe://example.org/admin'],
      ['x_forwarded_client_cert', 'evil'],
    ];
    const block = blockOf([...requestOf('/p', [], 'POST'), ...forged, ['x-z', 'y'.repeat(300)], ...forged]);
    const parts = [block.subarray(0, 40), block.subarray(40, 41), block.subarray(41)];
    const bytes = Buffer.concat([
      encodeFrame(FRAME.headers, 1, {
        flags: FLAG.padded | FLAG.priority,
        payload: Buffer.concat([Buffer.of(7, 0, 0, 0, 0, 16), parts[0] ?? block, Buffer.alloc(7)]),
      }),
      encodeFrame(FRAME.continuation, 1, { payload: parts[1] ?? block }),
      encodeFrame(FRAME.continuation, 1, { flags: FLAG.endHeaders, payload: parts[2] ?? block }),
      encodeFrame(FRAME.data, 1, { payload: Buffer.from('hello') }),
      encodeFrame(FRAME.headers, 1, {
        flags: FLAG.endHeaders | FLAG.endStream,
        payload: blockOf([...forged, ['x-sum', '5']]),
      }),
    ]);
    // One byte at a time: each is an event of its own where the kernel gives it so.
    for (const byte of bytes) client.send(Buffer.of(byte));
    await client.ended(1);
    const seen = await rig.sees('/p');
    await waitUntil('the trailers are there', () => seen.trailers);
    expect([seen.bodyBytes, seen.headers['x-z']]).toEqual([5, 'y'.repeat(300)]);
    expect(seen.headers[OWNED]).toBe(OWN_VALUE);
    expect(seen.headers).not.toHaveProperty('x_forwarded_client_cert');
    expect(Object.entries(seen.trailers ?? {})).toEqual([['x-sum', '5']]);
  });

  test('follows a client’s header table in the race, through refused blocks, and until it gives it up', async () => {
    client.acknowledges = false;
    const insert = Buffer.concat([
      Buffer.from([0x40, 3]),
      Buffer.from('x-a'),
      Buffer.from([3]),
      Buffer.from('abc'),
    ]);
    const newest = Buffer.of(0x80 | 62);
    const refer = (path: string, ...more: readonly Uint8Array[]): Buffer =>
      Buffer.concat([blockOf(requestOf(path)), ...more]);
    client.request(1, refer('/1', insert));
    client.request(3, refer('/3', newest));
    client.request(5, refer('/denied', insert));
    client.request(7, refer('/7', newest, Buffer.of(0x80 | 63)));
    for (const id of [1, 3, 5, 7]) await client.ended(id);
    expect([client.statusOf(5), rig.find('/denied')]).toEqual(['403', undefined]);
    const values = ['/1', '/3', '/7'].map((path) => rig.find(path)?.headers['x-a']);
    expect(values).toEqual(['abc', 'abc', 'abc, abc']);
    expect(rig.find('/7')?.headers[OWNED]).toBe(OWN_VALUE);
    // The table is given up: its literals may still ask to be kept, and are not.
    client.send(encodeFrame(FRAME.settings, 0, { flags: FLAG.ack }));
    client.request(9, Buffer.concat([Buffer.of(0x20), refer('/9', insert)]));
    client.request(11, refer('/11', insert));
    await Promise.all([client.ended(9), client.ended(11)]);
    expect(rig.find('/11')?.headers['x-a']).toBe('abc');
    client.request(13, refer('/13', newest));
    await client.closed();
    expect(client.errorOf(FRAME.goAway)).toBe(HTTP2_ERROR.compression_error);
    expect(rig.find('/13')).toBeUndefined();
  });

  test('reads a repeated block once, and still decides each time', async () => {
    const block = Buffer.concat([Buffer.of(0x20), blockOf(requestOf('/same'))]);
    client.request(1, block);
    await client.ended(1);
    for (let id = 3; id < 20; id += 2) client.request(id, block.subarray(1));
    await client.ended(19);
    rig.judge.allow = () => 'policy_deny';
    client.request(21, block.subarray(1));
    await client.ended(21);
    expect(client.statusOf(21)).toBe('403');
    expect(rig.seen.map(({ headers }) => headers[OWNED])).toEqual(Array<string>(10).fill(OWN_VALUE));
    expect(rig.judge.records).toHaveLength(11);
  });

  test.each<[string, Uint8Array, number]>([
    ['upper case', blockOf(requestOf('/a', { Accept: 'x' })), HTTP2_ERROR.protocol_error],
    ['a field of the connection', blockOf(requestOf('/a', { connection: 'x' })), HTTP2_ERROR.protocol_error],
    ['two paths', blockOf(requestOf('/a', [[':path', '/b']])), HTTP2_ERROR.protocol_error],
    ['host unlike :authority', blockOf(requestOf('/a', { host: 'other' })), HTTP2_ERROR.protocol_error],
  ])('ends a stream with %s alone', async (_, block, error) => {
    client.request(1, block, 0);
    client.request(3, blockOf(requestOf('/b')));
    await Promise.all([client.ended(1), client.ended(3)]);
    expect(client.errorOf(FRAME.rstStream, 1)).toBe(error);
    expect(client.statusOf(3)).toBe('200');
    expect(rig.seen.map(({ headers }) => headers[':path'])).toEqual(['/b']);
    expect(rig.judge.outcomes).toEqual(['tcp protocol_error', 'http /b policy_allow']);
  });

  test('answers 400 to a path that could be read in two ways, and to CONNECT', async () => {
    client.request(1, blockOf(requestOf('/a/../b')));
    client.request(
      3,
      blockOf([
        [':method', 'CONNECT'],
        [':authority', 'shop:80'],
      ]),
      0,
    );
    await Promise.all([client.ended(1), client.ended(3)]);
    expect([client.statusOf(1), client.statusOf(3)]).toEqual(['400', '400']);
    expect(JSON.parse(client.bodyOf(1))).toMatchObject({ error: 'denied', reason: 'protocol_error' });
    expect(rig.seen).toEqual([]);
  });

  test('decides an extended CONNECT by its own fields', async () => {
    const fields = [...requestOf('/chat', { 'sec-websocket-version': '13' }, 'CONNECT')];
    const block = blockOf([...fields.slice(0, 4), [':protocol', 'websocket'], ...fields.slice(4)]);
    rig.judge.allow = ({ http }) =>
      http?.headers[':protocol'] === 'websocket' && http.path === '/chat' ? 'policy_allow' : 'policy_deny';
    client.request(1, block, 0);
    const seen = await rig.sees('/chat');
    expect(seen.headers).toMatchObject({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      [OWNED]: OWN_VALUE,
    });
    seen.stream.respond({ ':status': 200 });
    seen.stream.write('hello');
    await waitUntil('the answer is there', () => client.bodyOf(1) === 'hello');
    client.data(1, Buffer.from('back'));
    await waitUntil('the application hears', () => seen.bodyBytes === 4);
  });

  test('gives back the window of bodies that it throws away, and the connection lives', async () => {
    client.request(1, blockOf(requestOf('/denied', {}, 'POST')), 0);
    await client.ended(1);
    for (let i = 0; i < 3; i++) client.data(1, Buffer.alloc(16_384));
    client.send(
      encodeFrame(FRAME.data, 1, { flags: FLAG.padded | FLAG.endStream, payload: Buffer.alloc(100) }),
    );
    await waitUntil('the window is back', () => client.credit === 3 * 16_384 + 100);
    client.request(3, blockOf(requestOf('/a')));
    await client.ended(3);
    expect([client.statusOf(3), client.credit]).toEqual(['200', 3 * 16_384 + 100]);
  });
});

describe('Http2Relay, when it judges again', () => {
  test('cuts the streams that lost their permit on both sides, and no other', async () => {
    rig.respond = () => undefined;
    client.request(1, blockOf(requestOf('/kept', {}, 'POST')), 0);
    client.request(3, blockOf(requestOf('/lost', {}, 'POST')), 0);
    client.request(5, blockOf(requestOf('/lost-ended')));
    const [kept, lost, lostEnded] = [
      await rig.sees('/kept'),
      await rig.sees('/lost'),
      await rig.sees('/lost-ended'),
    ];
    lost.stream.respond({ ':status': 200 });
    lost.stream.write('some');
    await waitUntil('the answer has begun', () => client.bodyOf(3) === 'some');
    for (const relay of rig.relays)
      relay
        .carried(({ path }) => (path.startsWith('/lost') ? { message: 'lost' } : undefined))
        .pass()
        .goOn(() => true);
    await Promise.all([client.ended(3), client.ended(5)]);
    expect([client.errorOf(FRAME.rstStream, 3), client.errorOf(FRAME.rstStream, 5)]).toEqual([8, 8]);
    await waitUntil('the application is told', () => lost.resetCode === 8 && lostEnded.resetCode === 8);
    // What the client still sends counts in no window, and the other stream goes on.
    client.data(3, Buffer.alloc(10_000));
    client.data(1, Buffer.from('more'), FLAG.endStream);
    await waitUntil('the other stream is heard', () => kept.bodyBytes === 4);
    expect([client.credit, lost.bodyBytes]).toEqual([10_000, 0]);
    kept.stream.respond({ ':status': 200 });
    kept.stream.end('done');
    await client.ended(1);
    expect(client.bodyOf(1)).toBe('done');
  });
});

describe('Http2Relay with clients of node:http2', () => {
  let session: ClientHttp2Session;
  beforeEach(() => {
    session = connect(`http://127.0.0.1:${rig.port}`);
    session.on('error', () => undefined);
  });
  afterEach(() => session.destroy());

  async function answerOf(
    stream: ClientHttp2Stream,
  ): Promise<{ headers: IncomingHttpHeaders; body: Buffer }> {
    const chunks: Buffer[] = [];
    const { promise, resolve, reject } = Promise.withResolvers<{
      headers: IncomingHttpHeaders;
      body: Buffer;
    }>();
    let headers: IncomingHttpHeaders = {};
    stream.on('response', (got) => (headers = got));
    stream.on('data', (bytes: Buffer) => chunks.push(bytes));
    stream.on('end', () => resolve({ headers, body: Buffer.concat(chunks) }));
    stream.on('error', reject);
    return await promise;
  }

  test('carries megabytes each way on many streams at once', async () => {
    rig.respond = (stream, seen) => {
      stream.respond({ ':status': 200, 'x-got': String(seen.bodyBytes) });
      stream.end(Buffer.alloc(seen.bodyBytes, 'r'));
    };
    const sizes = Array.from({ length: 12 }, (_, i) => i * 300_007);
    const answers = await Promise.all(
      sizes.map(async (size, i) => {
        const stream = session.request({ ':method': 'POST', ':path': `/${i}` });
        stream.end(Buffer.alloc(size, 'q'));
        return await answerOf(stream);
      }),
    );
    expect(answers.map(({ headers }) => headers['x-got'])).toEqual(sizes.map(String));
    expect(answers.map(({ body }) => body.length)).toEqual(sizes);
  });

  test('a body in our refusal takes nothing from the window that the application fills', async () => {
    // node's client leaves the connection's window at 65,535 bytes and gives back only what it has read.
    rig.respond = (stream) => {
      stream.respond({ ':status': 200 });
      stream.end(Buffer.alloc(1_000_000, 'r'));
    };
    const large = session.request({ ':path': '/large' });
    const denied = Array.from({ length: 50 }, (_, i) => session.request({ ':path': `/denied${i}` }));
    const answers = await Promise.all([large, ...denied].map(answerOf));
    expect(answers[0]?.body.length).toBe(1_000_000);
    expect(answers.slice(1).every(({ headers }) => Number(headers[':status']) === 403)).toBe(true);
    expect(session.destroyed).toBe(false);
  });
});
