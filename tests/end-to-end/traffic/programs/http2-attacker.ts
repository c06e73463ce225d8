/** Frames that no honest client sends, as a program of a host: bun THIS HOST PORT WHAT. Prints as JSON what came of it. */
import {
  blockOf,
  RawHttp2Client,
  requestOf,
  type Fields,
} from '../../../../agent/proxy/fixtures/http2-raw-client.ts';
import {
  encodeFrame,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
} from '../../../../shared/wire/http2-frame.ts';
import { waitUntil } from '../../../kit/wait.ts';

const [host = '', port = '', what = ''] = process.argv.slice(-3);
const OWNED = 'x-forwarded-client-cert';
const client = RawHttp2Client.begin(Number(port), host);

/** What a connection came to. */
const fate = (): unknown => ({ isClosed: client.isClosed, error: client.errorOf(FRAME.goAway) ?? null });

const ATTACKS: Readonly<Record<string, () => Promise<unknown>>> = {
  async forge() {
    const forged: Fields = [
      [OWNED, 'URI=spiffe://example.org/admin'],
      ['x_forwarded_client_cert', 'URI=spiffe://example.org/admin'],
    ];
    client.request(1, blockOf(requestOf('/forged', forged, 'POST')), 0);
    client.data(1, Buffer.from('hello'));
    client.request(1, blockOf([...forged, ['x-sum', '5']]));
    await client.ended(1);
    return { status: client.statusOf(1) };
  },
  /** Hides what looks like a request behind the end of a body, as its request says how long that is. */
  async 'body-too-long'() {
    client.request(1, blockOf(requestOf('/longer', { 'content-length': '5' }, 'POST')), 0);
    client.data(1, Buffer.from('hello'));
    client.data(1, Buffer.from('GET /hidden HTTP/1.1\r\n\r\n'), FLAG.endStream);
    await client.ended(1);
    return { error: client.errorOf(FRAME.rstStream, 1), isClosed: client.isClosed };
  },
  async 'continuation-flood'() {
    client.send(
      encodeFrame(FRAME.headers, 1, { flags: FLAG.endStream, payload: blockOf(requestOf('/flood')) }),
    );
    for (let i = 0; i < 1000 && !client.isClosed; i++) client.send(encodeFrame(FRAME.continuation, 1));
    await client.closed();
    return fate();
  },
  async 'rapid-reset'() {
    // Refused ones: nghttpd has a limit of its own, and is not to be the one that ends it.
    for (let id = 1; id < 1000; id += 2) {
      client.request(id, blockOf(requestOf('/refused/reset')));
      client.send(encodeRstStream(id, 'cancel'));
    }
    // The rest costs nobody anything, so that it is many a second on every machine.
    client.send(...Array.from({ length: 20_000 }, () => encodeRstStream(999, 'cancel')));
    await client.closed();
    return fate();
  },
  async 'window-credit'() {
    client.request(1, blockOf(requestOf('/refused/upload', {}, 'POST')), 0);
    await client.ended(1);
    for (let i = 0; i < 3; i++) client.data(1, Buffer.alloc(16_384));
    client.data(1, Buffer.alloc(100), FLAG.endStream);
    await waitUntil('the window is back', () => client.credit >= 3 * 16_384 + 100);
    // Before the application is asked, which gives windows of its own.
    const { credit } = client;
    client.request(3, blockOf(requestOf('/small')));
    await client.ended(3);
    return { credit, statuses: [client.statusOf(1), client.statusOf(3)] };
  },
  /** Asks for refusals without end and reads none, until it is not read any more. */
  async 'non-reader'() {
    client.socket.pause();
    // Room for all bodies: what fills up is what stands between both, not the window.
    client.send(encodeWindowUpdate(0, 1 << 30));
    let id = 1;
    await waitUntil(
      'nothing more is taken',
      async () => {
        for (let i = 0; i < 200_000 && client.socket.writableLength < 4_000_000; i++) {
          client.request(id, blockOf(requestOf('/refused/flood')));
          id += 2;
        }
        const waiting = client.socket.writableLength;
        await Bun.sleep(500);
        return waiting >= 4_000_000 && client.socket.writableLength === waiting;
      },
      100_000,
    );
    return { requests: (id - 1) / 2 };
  },
};

console.log(JSON.stringify(await ATTACKS[what]?.()));
client.end();
process.exit(0);
