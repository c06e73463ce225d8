import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { parseRequestHead, rebuildHead, type RequestHead } from './http1-head.ts';
import { findHeadEnd, MAX_HEAD_BYTES } from './http1-syntax.ts';

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');

function parse(text: string): RequestHead {
  const bytes = bytesOf(`noise${text}next`);
  return parseRequestHead(bytes, 5, bytes.length - 4);
}

const get = (...lines: readonly string[]): string =>
  ['GET /a HTTP/1.1', 'Host: shop', ...lines, '', ''].join('\r\n');
const isRefused = (text: string): boolean =>
  ['http1_head_refused', 'http1_target_refused'].includes(reasonOf(() => parse(text)) ?? '');

function rebuilt(text: string, line = 'x-forwarded-client-cert: ours\r\n'): string {
  const bytes = bytesOf(`noise${text}next`);
  const range = { start: 5, end: bytes.length - 4 };
  const { cuts } = parseRequestHead(bytes, range.start, range.end);
  return Buffer.from(rebuildHead(bytes, { ...range, cuts }, bytesOf(line))).toString('latin1');
}

describe('parseRequestHead()', () => {
  test('reads a request', () => {
    expect(
      parse(
        'POST /pay?x=1 HTTP/1.1\r\nHost: Shop:80\r\nContent-Length: 12\r\nX-A:  1 \r\nx-a:\t2\r\nexpect: 100-continue\r\n\r\n',
      ),
    ).toMatchObject({
      method: 'POST',
      path: '/pay?x=1',
      host: 'shop:80',
      headers: { host: 'Shop:80', 'content-length': '12', 'x-a': '1,2', expect: '100-continue' },
      isChunked: false,
      bodyBytes: 12,
      closes: false,
      expectsContinue: true,
      wantsUpgrade: false,
      cuts: [],
    });
  });

  test('gives headers without a prototype, so that no name means anything else', () => {
    const { headers } = parse(get('__proto__: x', 'constructor: y'));
    expect(Object.getPrototypeOf(headers)).toBeNull();
    expect(Object.entries(headers)).toEqual([
      ['host', 'shop'],
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
  });

  test('reads chunked, close, keep-alive and upgrade', () => {
    expect(parse(get('Transfer-Encoding: Chunked'))).toMatchObject({ isChunked: true, bodyBytes: 0 });
    expect(parse(get('Connection: keep-alive, CLOSE'))).toMatchObject({ closes: true });
    expect(parse(get('Connection: Upgrade', 'Upgrade: websocket'))).toMatchObject({ wantsUpgrade: true });
    expect(parse(get('Upgrade: websocket'))).toMatchObject({ wantsUpgrade: false });
    expect(parse('GET / HTTP/1.0\r\n\r\n')).toMatchObject({ host: '', closes: true });
    expect(parse('GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n')).toMatchObject({ closes: false });
  });

  test('refuses fields of the framing with underscores, which some applications read as dashes', () => {
    for (const line of [
      'Transfer_Encoding: chunked',
      'Content_Length: 5',
      'content_length: 5',
      'Transfer_encoding: x',
    ])
      expect(reasonOf(() => parse(get(line)))).toBe('http1_head_refused');
    expect(parse(get('X_Length: 5')).headers).toMatchObject({ x_length: '5' });
  });

  test('refuses two fields that are one to applications which read other marks as dashes', () => {
    const refuses = (...fields: string[]): boolean => isRefused(get(...fields.map((name) => `${name}: x`)));
    for (const twins of [
      ['X-Tenant', 'X_Tenant'],
      ['x_tenant', 'X-Tenant'],
      ['x.tenant', 'x_tenant'],
    ])
      expect([twins, refuses(...twins)]).toEqual([twins, true]);
    for (const fields of [['x_tenant'], ['x_tenant', 'x_tenant'], ['x-tenant', 'x-tenant'], ['x_a', 'x-b']])
      expect([fields, refuses(...fields)]).toEqual([fields, false]);
  });

  test('cuts every spelling of the identity header', () => {
    const line = (name: string): string => `${name}: URI=evil`;
    const names = [
      'X-Forwarded-Client-Cert',
      'x-forwarded-client-cert',
      'X_Forwarded_Client_Cert',
      'X.Forwarded.Client.Cert',
      'X-Forwarded~Client!Cert',
      'x-forwarded_client-cert',
    ];
    const head = parse(get(...names.map(line)));
    expect(Object.keys(head.headers)).toEqual(['host']);
    expect(rebuilt(get('a: 1', ...names.map(line), 'b: 2'))).toBe(
      get('a: 1', 'b: 2', 'x-forwarded-client-cert: ours'),
    );
    expect(rebuilt(get(line('X-Forwarded-Client-Cert')), '')).toBe(get());
  });

  test('cuts the offer of HTTP/2', () => {
    const offer = ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'];
    expect(parse(get(...offer))).toMatchObject({ wantsUpgrade: false });
    expect(rebuilt(get(...offer), '')).toBe(get('Connection: Upgrade, HTTP2-Settings'));
    expect(rebuilt(get('connection: upgrade', 'upgrade: websocket, H2C'), '')).toBe(
      get('connection: upgrade'),
    );
  });

  test('accepts an absolute target whose authority is the Host', () => {
    expect(parse('GET http://Shop/a HTTP/1.1\r\nHost: shoP\r\n\r\n')).toMatchObject({
      path: '/a',
      host: 'shop',
    });
    expect(isRefused('GET http://shop/a HTTP/1.1\r\nHost: other\r\n\r\n')).toBe(true);
    expect(isRefused('GET http://shop:80/a HTTP/1.1\r\nHost: shop\r\n\r\n')).toBe(true);
  });

  test.each([
    ['Content-Length with Transfer-Encoding', get('Content-Length: 5', 'Transfer-Encoding: chunked')],
    ['Transfer-Encoding with Content-Length', get('Transfer-Encoding: chunked', 'Content-Length: 5')],
    ['two Content-Length', get('Content-Length: 5', 'Content-Length: 6')],
    ['two equal Content-Length', get('Content-Length: 5', 'content-length: 5')],
    ['a list of lengths', get('Content-Length: 5, 5')],
    ['a signed length', get('Content-Length: +5')],
    ['a negative length', get('Content-Length: -1')],
    ['a hexadecimal length', get('Content-Length: 0x5')],
    ['a spaced length', get('Content-Length: 5 0')],
    ['an empty length', get('Content-Length:')],
    ['a length beyond a double', get('Content-Length: 9999999999999999')],
    ['identity', get('Transfer-Encoding: identity')],
    ['gzip, chunked', get('Transfer-Encoding: gzip, chunked')],
    ['chunked twice', get('Transfer-Encoding: chunked, chunked')],
    ['two Transfer-Encoding', get('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked')],
    ['chunked with a tab inside', get('Transfer-Encoding: chu\tnked')],
    ['chunked with a vertical tab', get('Transfer-Encoding: \x0bchunked')],
    ['Transfer-Encoding in 1.0', 'POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['a space before the colon', get('x : 1')],
    ['a tab before the colon', get('x\t: 1')],
    ['obs-fold', get('x: 1', ' 2')],
    ['obs-fold by tab', get('x: 1', '\t2')],
    ['obs-fold of the first line', 'GET /a HTTP/1.1\r\n x: 1\r\nHost: a\r\n\r\n'],
    ['a bare LF', 'GET /a HTTP/1.1\r\nHost: a\nx: y\r\n\r\n'],
    ['a bare CR', 'GET /a HTTP/1.1\r\nHost: a\rx: y\r\n\r\n'],
    ['a CR before CRLF', 'GET /a HTTP/1.1\r\nHost: a\r\r\n\r\n'],
    ['a NUL', get('x: a\0b')],
    ['a DEL', get('x: a\x7fb')],
    ['no host', 'GET /a HTTP/1.1\r\nx: a\r\n\r\n'],
    ['two hosts', 'GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n'],
    ['an empty host', 'GET /a HTTP/1.1\r\nHost:\r\n\r\n'],
    ['a list of hosts', 'GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n'],
    ['a host with a path', 'GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['a host with a last dot', 'GET /a HTTP/1.1\r\nHost: a.\r\n\r\n'],
    ['a host with a last dot before its port', 'GET /a HTTP/1.1\r\nHost: a.:80\r\n\r\n'],
    ['a host with a user', 'GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n'],
    ['dropping our header', get('Connection: close, x-forwarded-client-cert')],
    ['dropping another header', get('Connection: authorization')],
    ['dropping by Proxy-Connection', get('Proxy-Connection: x-forwarded-client-cert')],
    ['HTTP/1.2', 'GET /a HTTP/1.2\r\nHost: a\r\n\r\n'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\n'],
    ['HTTP/0.9', 'GET /a\r\n\r\n'],
    ['a lower-case version', 'GET /a http/1.1\r\nHost: a\r\n\r\n'],
    ['a space in the target', 'GET /a b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['two spaces', 'GET  /a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a trailing space', 'GET /a HTTP/1.1 \r\nHost: a\r\n\r\n'],
    ['a tab as separator', 'GET\t/a\tHTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a fragment', 'GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a backslash', 'GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a byte beyond ASCII in the target', 'GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a dot segment', 'GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['an empty name', get(': x')],
    ['a line without colon', get('x')],
    ['a name beyond ASCII', get('\xe9: 1')],
    ['an empty line first', '\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['an empty head', '\r\n\r\n'],
    ['a method with a colon', 'G:T /a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a method in small letters', 'delete /a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a method with one small letter', 'DELETe /a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a long method', `${'G'.repeat(33)} /a HTTP/1.1\r\nHost: a\r\n\r\n`],
    ['too many fields', get(...Array.from({ length: 256 }, (_, i) => `x${i}: 1`))],
    ['CONNECT', 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n'],
  ])('refuses %s', (_name, text) => {
    expect(isRefused(text)).toBe(true);
  });

  test('accepts in a value exactly the bytes that may stand there', () => {
    for (let byte = 0; byte < 256; byte++) {
      const allowed = byte === 9 || (byte >= 32 && byte !== 127);
      expect([byte, isRefused(get(`x: a${String.fromCharCode(byte)}b`))]).toEqual([byte, !allowed]);
    }
  });

  test('accepts in a name exactly the bytes of a token', () => {
    for (let byte = 0; byte < 256; byte++) {
      const character = String.fromCharCode(byte);
      const allowed = /[!#$%&'*+\-.^_`|~0-9A-Za-z:]/.test(character);
      expect([byte, isRefused(get(`x${character}y: 1`))]).toEqual([byte, !allowed]);
    }
  });

  test('only ever throws PicketError for damaged heads', () => {
    const good = get('Content-Length: 5', 'Connection: upgrade', 'X-Forwarded-Client-Cert: a');
    let seed = 3;
    const next = (): number => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff) >> 8;
    for (let round = 0; round < 5000; round++) {
      const bytes = bytesOf(good);
      for (let flips = 1 + (next() % 3); flips > 0; flips--) bytes[next() % bytes.length] = next() & 0xff;
      const end = next() % 2 === 0 ? bytes.length : next() % bytes.length;
      expect([undefined, 'http1_head_refused', 'http1_target_refused']).toContain(
        reasonOf(() => parseRequestHead(bytes, 0, end)),
      );
    }
  });
});

describe('findHeadEnd()', () => {
  test('finds the end, waits for it, and refuses a bare LF before it is there', () => {
    const head = bytesOf(`xx${get()}rest`);
    const end = head.length - 4;
    expect(findHeadEnd(head, 2)).toBe(end);
    for (let cut = 2; cut < end; cut++) expect(findHeadEnd(head.subarray(0, cut), 2)).toBe(-1);
    expect(findHeadEnd(bytesOf('GET / HTTP/1.1\nHost: a\n\n'), 0)).toBe(-2);
    expect(findHeadEnd(bytesOf('\n'), 0)).toBe(-2);
  });

  test('refuses a head that is too long, whole or not', () => {
    const long = bytesOf(get(`x: ${'y'.repeat(MAX_HEAD_BYTES)}`));
    expect(findHeadEnd(long, 0)).toBe(-2);
    expect(findHeadEnd(long.subarray(0, long.length - 10), 0)).toBe(-2);
    const exact = get(`x: ${'y'.repeat(MAX_HEAD_BYTES - get('x: ').length)}`);
    expect(findHeadEnd(bytesOf(exact), 0)).toBe(MAX_HEAD_BYTES);
  });
});
