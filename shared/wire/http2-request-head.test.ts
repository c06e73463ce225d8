import { describe, expect, test } from 'bun:test';
import { FieldList, HpackDecoder } from './hpack-decoder.ts';
import { encodeFields } from './hpack-encoder.ts';
import { readRequestHead, readTrailers, type ReadRequestHead } from './http2-request-head.ts';

type Field = readonly [name: string, value: string];

const PSEUDO: readonly Field[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/a?b=c'],
  [':authority', 'Shop:80'],
];

function listOf(fields: readonly Field[]): FieldList {
  const list = new FieldList();
  const block = encodeFields(fields.map(([name, value]) => ({ name, value })));
  new HpackDecoder({ listBytes: 65_536, fields: 256 }).decode(block, { start: 0, end: block.length }, list);
  return list;
}

const read = (...fields: readonly Field[]): ReadRequestHead => readRequestHead(listOf(fields));
const withFields = (...fields: readonly Field[]): ReadRequestHead => read(...PSEUDO, ...fields);
/** The pseudo-header fields with one of them changed, or without it. */
const change = (name: string, value?: string): readonly Field[] =>
  PSEUDO.flatMap(([known, before]): Field[] =>
    known !== name ? [[known, before]] : value === undefined ? [] : [[name, value]],
  );

describe('readRequestHead()', () => {
  test('reads what the policy asks about', () => {
    const read = withFields(['accept', 'a'], ['cookie', 'x=1'], ['accept', 'b'], ['cookie', 'y=2']);
    expect(read).toEqual({
      kind: 'request',
      head: {
        method: 'GET',
        path: '/a?b=c',
        host: 'shop:80',
        scheme: 'http',
        headers: Object.assign(Object.create(null) as object, {
          host: 'Shop:80',
          accept: 'a,b',
          cookie: 'x=1; y=2',
        }) as Readonly<Record<string, string>>,
        isGrpc: false,
        owned: [],
      },
    });
  });

  test('lists every spelling of the header that names the caller, and shows none of it', () => {
    const read = withFields(
      ['x-forwarded-client-cert', 'URI=x'],
      ['a', ''],
      ['x_forwarded-client_cert', 'y'],
    );
    if (read.kind !== 'request') throw new Error(read.kind);
    expect(read.head.owned).toEqual([4, 6]);
    expect(Object.keys(read.head.headers)).toEqual(['a', 'host']);
  });

  test('takes host in the place of :authority, and both if they say the same', () => {
    const host: Field = ['host', 'shop:80'];
    expect(read(...change(':authority'), host)).toMatchObject({ kind: 'request', head: { host: 'shop:80' } });
    expect(withFields(host)).toMatchObject({ kind: 'request', head: { host: 'shop:80' } });
  });

  test('takes an extended CONNECT with its own fields', () => {
    expect(read(...change(':method', 'CONNECT'), [':protocol', 'websocket'])).toMatchObject({
      kind: 'request',
      head: { method: 'CONNECT', path: '/a?b=c', headers: { ':protocol': 'websocket' } },
    });
  });

  test.each(['application/grpc', 'application/grpc+proto', 'Application/gRPC; x=y'])(
    'knows %s for gRPC',
    (type) => {
      expect(withFields(['content-type', type])).toMatchObject({ head: { isGrpc: true } });
    },
  );

  test('does not take gRPC-Web for gRPC, which has its own form of an answer', () => {
    expect(withFields(['content-type', 'application/grpc-web'])).toMatchObject({ head: { isGrpc: false } });
  });

  test.each<[string, readonly Field[]]>([
    ['a missing :method', change(':method')],
    ['a missing :scheme', change(':scheme')],
    ['a missing :path', change(':path')],
    ['an empty :path', change(':path', '')],
    ['a :path that is a URL', change(':path', 'http://shop/')],
    ['a :path with a blank', change(':path', '/a b')],
    ['a :path with a fragment', change(':path', '/a#b')],
    ['a :path beyond ASCII', change(':path', '/\xe4')],
    ['a method that is no token', change(':method', 'GET /')],
    ['a method without end', change(':method', 'G'.repeat(33))],
    ['a pseudo-header field twice', [...PSEUDO, [':path', '/a?b=c']]],
    ['an unknown pseudo-header field', [...PSEUDO, [':x', '']]],
    ['a pseudo-header field of answers', [...PSEUDO, [':status', '200']]],
    ['a pseudo-header field behind another field', [...change(':path'), ['a', 'b'], [':path', '/']]],
    [
      'a pseudo-header field behind a forged one',
      [...change(':path'), ['x-forwarded-client-cert', 'b'], [':path', '/']],
    ],
    ['upper case', [...PSEUDO, ['Accept', 'a']]],
    ['an empty name', [...PSEUDO, ['', 'a']]],
    ['a zero in a name', [...PSEUDO, ['a\0', 'a']]],
    ['a name with a blank', [...PSEUDO, ['a b', 'a']]],
    ['a name with a colon', [...PSEUDO, ['a:', 'a']]],
    ['connection', [...PSEUDO, ['connection', 'close']]],
    ['keep-alive', [...PSEUDO, ['keep-alive', '1']]],
    ['proxy-connection', [...PSEUDO, ['proxy-connection', 'close']]],
    ['transfer-encoding', [...PSEUDO, ['transfer-encoding', 'chunked']]],
    ['transfer_encoding', [...PSEUDO, ['transfer_encoding', 'chunked']]],
    ['upgrade', [...PSEUDO, ['upgrade', 'h2c']]],
    ['te other than trailers', [...PSEUDO, ['te', 'gzip']]],
    ['content-length twice', [...PSEUDO, ['content-length', '1'], ['content-length', '1']]],
    ['content-length that is no number', [...PSEUDO, ['content-length', '+1']]],
    ['content_length', [...PSEUDO, ['content_length', '1']]],
    ['a line feed in a value', [...PSEUDO, ['a', 'b\nc']]],
    ['a zero in a value', [...PSEUDO, ['a', 'b\0']]],
    ['a blank at the end of a value', [...PSEUDO, ['a', 'b ']]],
    ['a tab at the front of a value', [...PSEUDO, ['a', '\tb']]],
    ['a blank within the authority at its end', change(':authority', 'shop ')],
    ['two hosts', [...PSEUDO, ['host', 'shop:80'], ['host', 'shop:80']]],
    ['host unlike :authority', [...PSEUDO, ['host', 'shop']]],
    ['no host', change(':authority')],
    ['CONNECT with a path', change(':method', 'CONNECT')],
    ['CONNECT without an authority', [[':method', 'CONNECT']]],
    [':protocol without CONNECT', [...PSEUDO, [':protocol', 'websocket']]],
    [':protocol that is no token', [...change(':method', 'CONNECT'), [':protocol', 'web socket']]],
  ])('takes %s for no request', (_, fields) => {
    expect(read(...fields).kind).toBe('malformed');
  });

  test.each<[string, readonly Field[]]>([
    ['a dot segment', change(':path', '/a/../b')],
    ['an escaped dot segment', change(':path', '/a/%2e%2e/b')],
    ['an escaped slash', change(':path', '/a%2fb')],
    ['an empty segment', change(':path', '/a//b')],
    ['* without OPTIONS', change(':path', '*')],
    ['a method in small letters', change(':method', 'delete')],
    ['CONNECT in small letters', [[':method', 'connect'], ...change(':method'), [':protocol', 'websocket']]],
    ['an empty host', change(':authority', '')],
    ['user information', change(':authority', 'a@shop')],
    ['a host with a last dot', change(':authority', 'shop.')],
    ['fields that differ in their marks', [...PSEUDO, ['x-tenant', 'a'], ['x_tenant', 'b']]],
    ['another scheme', change(':scheme', 'ftp')],
    [
      'CONNECT',
      [
        [':method', 'CONNECT'],
        [':authority', 'shop:80'],
      ],
    ],
    [
      '* in an extended CONNECT',
      [
        [':method', 'CONNECT'],
        [':scheme', 'http'],
        [':path', '*'],
        [':authority', 'shop'],
        [':protocol', 'websocket'],
      ],
    ],
  ])('refuses %s as on HTTP/1.1', (_, fields) => {
    expect(read(...fields)).toMatchObject({ kind: 'refused', status: 400 });
  });

  test('refuses more fields than it may see', () => {
    const many = Array.from({ length: 256 }, (_, i): Field => [`n${i}`, 'v']);
    expect(withFields(...many)).toMatchObject({ kind: 'refused', status: 431 });
    expect(withFields(['a', 'v'.repeat(65_536)])).toMatchObject({ kind: 'refused', status: 431 });
  });

  test('takes OPTIONS *', () => {
    const fields = change(':method', 'OPTIONS').map(([name, value]): Field => [
      name,
      name === ':path' ? '*' : value,
    ]);
    expect(read(...fields)).toMatchObject({ kind: 'request', head: { path: '*' } });
  });
});

describe('readTrailers()', () => {
  test('lists owned fields', () => {
    const trailers = listOf([
      ['a', 'b'],
      ['x-forwarded-client-cert', 'x'],
      ['grpc-status', '0'],
    ]);
    expect(readTrailers(trailers)).toEqual({ owned: [1] });
  });

  test.each<[string, Field]>([
    ['pseudo-header fields', [':path', '/']],
    ['fields of the connection', ['connection', 'close']],
    ['upper case', ['A', 'b']],
    ['control characters', ['a', '\r']],
  ])('takes none with %s', (_, field) => {
    expect(readTrailers(listOf([['a', 'b'], field]))).toHaveProperty('malformed');
  });
});
