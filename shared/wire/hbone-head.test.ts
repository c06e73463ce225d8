import { describe, expect, test } from 'bun:test';
import { formatHboneAuthority, readHboneAnswer, readHboneConnect } from './hbone-head.ts';
import { FieldList } from './hpack-decoder.ts';

type Fields = readonly (readonly [string, string])[];

function listOf(fields: Fields): FieldList {
  const list = new FieldList();
  for (const [name, value] of fields) {
    list.names.push(name);
    list.values.push(value);
  }
  return list;
}

function connect(authority: string, more: Fields = []) {
  return readHboneConnect(listOf([[':method', 'CONNECT'], [':authority', authority], ...more]));
}

describe('readHboneConnect()', () => {
  test.each([
    ['10.0.0.2:80', { address: '10.0.0.2', port: 80 }],
    ['[fd00::2]:65535', { address: 'fd00::2', port: 65_535 }],
    ['[FD00:0:0::2]:1', { address: 'fd00::2', port: 1 }],
    ['[::ffff:10.0.0.2]:80', { address: '10.0.0.2', port: 80 }],
  ])('reads the address of %s', (authority, destination) => {
    expect(connect(authority)).toEqual({
      kind: 'connect',
      connect: { destination, claimedSource: undefined, traceparent: undefined },
    });
  });

  test.each([
    ['10.0.0.2', 400],
    ['10.0.0.2:', 400],
    ['10.0.0.2:080', 400],
    ['10.0.0.2:65536', 400],
    ['10.0.0.2:-1', 400],
    ['10.0.0.256:80', 400],
    ['10.0.2:80', 400],
    ['fd00::2:80', 400],
    ['[fd00::2%eth0]:80', 400],
    ['[10.0.0.2]:x', 400],
    ['a/b:80', 400],
    ['a@b:80', 400],
    ['[::g]:80', 400],
    [':80', 400],
    [`${'a'.repeat(256)}:80`, 400],
    ['web.shop:80', 503],
    ['1.2.3.4.example:80', 503],
  ])('refuses %s with %i', (authority, status) => {
    expect(connect(authority)).toMatchObject({ kind: 'refused', status });
  });

  test.each<[string, string, object | undefined]>([
    ['as ztunnel writes it', 'for="10.9.9.9:41000"', { address: '10.9.9.9', port: 41_000 }],
    ['with a host', 'for="[fd00::9]:1";host=web.shop', { address: 'fd00::9', port: 1 }],
    ['unquoted, behind others', 'proto=https; For=10.9.9.9:5', { address: '10.9.9.9', port: 5 }],
    ['the first of several', 'for="10.9.9.9:5", for="10.9.9.8:6"', { address: '10.9.9.9', port: 5 }],
    ['without a port', 'for=10.9.9.9', undefined],
    ['a name for it', 'for=_hidden', undefined],
    ['a name', 'for="pod.shop:80"', undefined],
    ['nonsense', ';;;for==', undefined],
  ])('reads who is forwarded for: %s', (_, value, claimedSource) => {
    expect(connect('10.0.0.2:80', [['forwarded', value]])).toMatchObject({ connect: { claimedSource } });
  });

  test('reads of which trace it is, as it stands there, unless that is said twice', () => {
    const said = ['traceparent', 'whatever'] as const;
    expect(connect('10.0.0.2:80', [said])).toMatchObject({ connect: { traceparent: 'whatever' } });
    expect(connect('10.0.0.2:80', [said, said])).toMatchObject({ connect: { traceparent: undefined } });
  });

  test('refuses a head that was too long to keep', () => {
    const list = listOf([[':method', 'CONNECT']]);
    list.isTooLong = true;
    expect(readHboneConnect(list)).toMatchObject({ kind: 'refused', status: 431 });
  });
});

describe('readHboneAnswer()', () => {
  test('reads the status, and the first of each header', () => {
    const answer = readHboneAnswer(
      listOf([
        [':status', '200'],
        ['baggage', 'a'],
        ['baggage', 'b'],
      ]),
    );
    expect(answer).toMatchObject({ status: 200 });
    expect({ ...(answer as { headers: object }).headers }).toEqual({ baggage: 'a' });
  });

  test.each<[string, Fields]>([
    ['no status', [['a', 'b']]],
    [
      'two of them',
      [
        [':status', '200'],
        [':status', '200'],
      ],
    ],
    [
      'one behind others',
      [
        ['a', 'b'],
        [':status', '200'],
      ],
    ],
    ['one that is none', [[':status', '2000']]],
    ['one in words', [[':status', 'OK']]],
    [
      'a field of requests',
      [
        [':status', '200'],
        [':path', '/'],
      ],
    ],
    [
      'upper case',
      [
        [':status', '200'],
        ['A', 'b'],
      ],
    ],
  ])('refuses %s', (_, fields) => {
    expect(readHboneAnswer(listOf(fields))).toBeString();
  });
});

test('formatHboneAuthority() writes what readHboneConnect() reads', () => {
  for (const destination of [
    { address: '10.0.0.2', port: 80 },
    { address: 'fd00::2', port: 65_535 },
  ])
    expect(connect(formatHboneAuthority(destination))).toMatchObject({ connect: { destination } });
});
