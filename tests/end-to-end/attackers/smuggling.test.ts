import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import { CLIENT_PREFACE, encodeFrame, FLAG, FRAME } from '../../../shared/wire/http2-frame.ts';
import { SmugglingRig } from './smuggling-rig.ts';

/** Requests within requests: nginx never sees one that was not decided. The bytes go through the mesh as they are written here. */

setDefaultTimeout(60_000);

/** What the policy does not allow, and nginx would do. */
const SMUGGLED = 'POST /secret HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n';
const CHUNK = SMUGGLED.length.toString(16);
let rig: SmugglingRig;

beforeAll(async () => {
  rig = await SmugglingRig.open();
}, 120_000);
afterAll(async () => await rig.close());

const get = (lines: string, body = ''): string =>
  `GET /outer HTTP/1.1\r\nHost: shop\r\n${lines}\r\n\r\n${body}`;

async function expectNothingSmuggled(text: string): Promise<string> {
  const answer = await rig.send(text);
  expect((await rig.requestLines()).filter((line) => line.includes('secret'))).toEqual([]);
  expect(answer).not.toContain('HTTP/1.1 201');
  return answer;
}

/** The whole request is refused: nginx sees nothing at all. */
async function expectRefused(text: string): Promise<void> {
  const before = (await rig.requestLines()).length;
  const answer = await expectNothingSmuggled(text);
  expect(answer === '' || /^HTTP\/1\.1 4\d\d /.test(answer)).toBe(true);
  expect(answer.match(/^HTTP\/1\.1 /gm)?.length ?? 0).toBeLessThanOrEqual(1);
  expect((await rig.requestLines()).length).toBe(before);
}

const CHUNKED_END = `0\r\n\r\n${SMUGGLED}`;

/** By family: how the client says where the body ends. Everything here is refused with its head. */
const HEADS: Readonly<Record<string, string>> = {
  'CL.TE': get(`Content-Length: ${CHUNKED_END.length}\r\nTransfer-Encoding: chunked`, CHUNKED_END),
  'TE.CL': get('Transfer-Encoding: chunked\r\nContent-Length: 4', `${CHUNK}\r\n${SMUGGLED}\r\n0\r\n\r\n`),
  'TE.TE, the second unknown': get('Transfer-Encoding: chunked\r\nTransfer-Encoding: cow', CHUNKED_END),
  'TE.TE, the first unknown': get('Transfer-Encoding: cow\r\nTransfer-Encoding: chunked', CHUNKED_END),
  'TE.TE, twice chunked': get('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', CHUNKED_END),
  'TE in a list': get('Transfer-Encoding: identity, chunked', CHUNKED_END),
  'TE with another one after it': get('Transfer-Encoding: chunked, identity', CHUNKED_END),
  'TE with a prefix': get('Transfer-Encoding: xchunked', CHUNKED_END),
  'TE with a parameter': get('Transfer-Encoding: chunked;a=b', CHUNKED_END),
  'TE in quotes': get('Transfer-Encoding: "chunked"', CHUNKED_END),
  'TE after a vertical tab': get('Transfer-Encoding: \x0bchunked', CHUNKED_END),
  'TE after a no-break space': get('Transfer-Encoding: \xa0chunked', CHUNKED_END),
  'TE with a blank before the colon': get('Transfer-Encoding : chunked', CHUNKED_END),
  'TE with an underscore': get('Transfer_Encoding: chunked', CHUNKED_END),
  'TE on a folded line': get('Transfer-Encoding:\r\n chunked', CHUNKED_END),
  'TE behind a bare CR': get('X: y\rTransfer-Encoding: chunked', CHUNKED_END),
  'TE behind a bare LF': get('X: y\nTransfer-Encoding: chunked', CHUNKED_END),
  'TE behind a NUL': get('X: y\0\r\nTransfer-Encoding: chunked', CHUNKED_END),
  'TE in HTTP/1.0': get('Transfer-Encoding: chunked', CHUNKED_END).replace('HTTP/1.1', 'HTTP/1.0'),
  'an empty TE': get('Transfer-Encoding:', SMUGGLED),
  'a list of lengths': get(`Content-Length: 0, ${SMUGGLED.length}`, SMUGGLED),
  'a negative length': get('Content-Length: -1', SMUGGLED),
  'a hexadecimal length': get(`Content-Length: 0x${CHUNK}`, SMUGGLED),
  'a length with a fraction': get('Content-Length: 0.0', SMUGGLED),
  'a length that is too big': get('Content-Length: 18446744073709551616', SMUGGLED),
  'an empty length': get('Content-Length:', SMUGGLED),
  'a length with a blank in it': get('Content-Length: 0 0', SMUGGLED),
  'a length with an underscore': get(`Content_Length: ${SMUGGLED.length}`, SMUGGLED),
  'lines that end with CR alone': get('X: y').replaceAll('\r\n', '\r') + SMUGGLED,
  'lines that end with LF alone': get('X: y').replaceAll('\r\n', '\n') + SMUGGLED,
  'a space before the first field': `GET /outer HTTP/1.1\r\n Host: shop\r\n\r\n${SMUGGLED}`,
  'two spaces before the target': `GET  /outer HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a tab before the target': `GET\t/outer HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a space after the version': `GET /outer HTTP/1.1 \r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a space within the target': `GET /outer /x HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a version that does not exist': `GET /outer HTTP/1.9\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a version in small letters': `GET /outer http/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'HTTP/0.9': `GET /outer\r\n${SMUGGLED}`,
  'HTTP/0.9 with a bare LF': `POST /secret\n`,
  'no Host': `GET /outer HTTP/1.1\r\n\r\n${SMUGGLED}`,
  'two Hosts': `GET /outer HTTP/1.1\r\nHost: shop\r\nHost: other\r\n\r\n${SMUGGLED}`,
  'a Host with a path': `GET /outer HTTP/1.1\r\nHost: shop/secret\r\n\r\n${SMUGGLED}`,
  'a Host with a last dot': `GET /outer HTTP/1.1\r\nHost: shop.\r\n\r\n${SMUGGLED}`,
  'a Host with a last dot before its port': `GET /outer HTTP/1.1\r\nHost: shop.:80\r\n\r\n${SMUGGLED}`,
  'a Host that is empty': `GET /outer HTTP/1.1\r\nHost:\r\n\r\n${SMUGGLED}`,
  'a Host that disagrees with an absolute target': `GET http://shop/outer HTTP/1.1\r\nHost: other\r\n\r\n${SMUGGLED}`,
  'a Host that lacks the port of an absolute target': `GET http://shop:80/outer HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a Host with two ports': `GET /outer HTTP/1.1\r\nHost: shop:80:81\r\n\r\n${SMUGGLED}`,
  'a Host with a user': `GET /outer HTTP/1.1\r\nHost: me@shop\r\n\r\n${SMUGGLED}`,
  'an absolute target that disagrees with Host': `GET http://other/outer HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'an absolute target of another port than Host': `GET http://shop:1/outer HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'an absolute target of another scheme': `GET ftp://shop/outer HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  CONNECT: `CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n${SMUGGLED}`,
  'a target without a slash': `GET secret HTTP/1.1\r\nHost: shop\r\n\r\n${SMUGGLED}`,
  'a Connection that removes the identity': get('Connection: close, X-Forwarded-Client-Cert'),
};

describe('a request', () => {
  for (const [name, text] of Object.entries(HEADS))
    test(`with ${name} is refused with all that follows`, async () => await expectRefused(text));

  test('in the body of another one stays a body: CL.0 and chunked', async () => {
    const before = (await rig.requestLines()).length;
    const end = get('Connection: close');
    const length = await expectNothingSmuggled(get(`Content-Length: ${SMUGGLED.length}`, SMUGGLED) + end);
    const chunks = await expectNothingSmuggled(
      get('Transfer-Encoding: chunked', `${CHUNK}\r\n${SMUGGLED}\r\n0\r\n\r\n`) + end,
    );
    for (const answer of [length, chunks]) expect(answer.match(/HTTP\/1\.1 200/g)?.length).toBe(2);
    const seen = (await rig.requestLines()).slice(before);
    expect(seen).toHaveLength(4);
    expect(new Set(seen)).toEqual(new Set(['GET /outer HTTP/1.1']));
  });

  test('behind another one is decided by itself', async () => {
    const before = (await rig.requestLines()).length;
    const answer = await rig.send(get('X: y') + SMUGGLED + get('Connection: close'));
    expect(answer.match(/HTTP\/1\.1 (\d+)/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 403', 'HTTP/1.1 200']);
    expect((await rig.requestLines()).length).toBe(before + 2);
  });

  test('behind an upgrade that nginx does not take is decided', async () => {
    for (const protocol of ['websocket', 'h2c'])
      await expectNothingSmuggled(
        get(
          `Connection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABk`,
          SMUGGLED,
        ),
      );
  });

  test('of HTTP/2 with prior knowledge does not pass undecided', async () => {
    const before = (await rig.requestLines()).length;
    const block = encodeFields([
      { name: ':method', value: 'POST' },
      { name: ':scheme', value: 'http' },
      { name: ':path', value: '/secret' },
      { name: ':authority', value: 'shop' },
    ]);
    const request = encodeFrame(FRAME.headers, 1, {
      flags: FLAG.endHeaders | FLAG.endStream,
      payload: block,
    });
    const bytes = Buffer.concat([
      CLIENT_PREFACE,
      encodeFrame(FRAME.settings, 0),
      request,
      Buffer.from(SMUGGLED),
    ]);
    const answer = await rig.send(bytes.toString('latin1'));
    expect(answer).toContain('"reason":"policy_deny"');
    expect((await rig.requestLines()).length).toBe(before);
  });
});

/** Chunks that programs read in more than one way: the request ends where they begin, at the latest. */
const CHUNKS: Readonly<Record<string, string>> = {
  'an extension that ends with LF alone': `1;a\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'an extension with a CR in it': `1;a\rb\r\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'a size that ends with LF alone': `1\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'a chunk that ends with LF alone': `1\r\nX\n0\r\n\r\n${SMUGGLED}`,
  'a chunk without an end': `1\r\nX0\r\n\r\n${SMUGGLED}`,
  'a size that overflows': `100000000\r\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'a size that wraps to zero': `10000000000000000\r\n\r\n${SMUGGLED}`,
  'a size with 0x': `0x1\r\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'a negative size': `-1\r\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'a size with an underscore': `1_0\r\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'a size after a blank': ` 1\r\nX\r\n0\r\n\r\n${SMUGGLED}`,
  'no size': `\r\n${SMUGGLED}`,
  'a last chunk that ends with LF alone': `0\n\n${SMUGGLED}`,
  'a length among the trailers': `0\r\nContent-Length: 5\r\n\r\n${SMUGGLED}`,
  'an identity among the trailers': `0\r\nX-Forwarded-Client-Cert: URI=spiffe://example.org/admin\r\n\r\n${SMUGGLED}`,
  'a folded trailer': `0\r\nX: y\r\n z\r\n\r\n${SMUGGLED}`,
};

describe('a chunked body', () => {
  for (const [name, body] of Object.entries(CHUNKS))
    test(`with ${name} carries no request in`, async () => {
      const answer = await expectNothingSmuggled(get('Transfer-Encoding: chunked', body));
      expect(answer).not.toContain('admin');
    });
});
