import { describe, expect, test } from 'bun:test';
import {
  decodeRtnetlinkAnswer,
  encodeRtnetlinkQuery,
  RTNETLINK_QUERY_BYTES,
  type RtnetlinkMessage,
} from './rtnetlink-message.ts';

const SEQUENCE = 7;

function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3);
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

function message(type: number, body: Uint8Array, { flags = 0, sequence = SEQUENCE } = {}): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + body.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt32LE(sequence, 8);
  return Buffer.concat([header, body]);
}

const u32 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, (value >> 8) & 0xff, 0, 0);
const NONE = Uint8Array.of(0xff, 0xff, 0xff, 0xff);

function link(kind: string, namespaceId: Uint8Array, ...more: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(16);
  head.writeInt32LE(5, 4);
  const info = attribute(18, attribute(1, Buffer.from(`${kind}\0`)));
  return message(16, Buffer.concat([head, attribute(5, u32(2)), info, attribute(37, namespaceId), ...more]));
}

/** A route to 10.8.1.2 by the interface 5, `change` aside. */
function route(change: { at?: number; value?: number; more?: readonly Buffer[] } = {}): Buffer {
  const head = Buffer.from([2, 32, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0]);
  if (change.at !== undefined) head[change.at] = change.value ?? 0;
  const bytes = head[0] === 2 ? [10, 8, 1, 2] : [0xfd, ...Array<number>(14).fill(0), 2];
  const attributes = [attribute(1, Uint8Array.from(bytes)), attribute(4, u32(5)), ...(change.more ?? [])];
  return message(24, Buffer.concat([head, ...attributes]));
}

const decode = (...datagram: readonly Buffer[]): readonly RtnetlinkMessage[] =>
  decodeRtnetlinkAnswer(Buffer.concat(datagram), SEQUENCE).messages;

describe('encodeRtnetlinkQuery()', () => {
  test.each([
    [{ kind: 'links' }, 18, 0x301, 40],
    [{ kind: 'routes', family: 'ipv4' }, 26, 0x301, 28],
    [{ kind: 'routes', family: 'ipv6' }, 26, 0x301, 28],
    [{ kind: 'namespace', fd: 9 }, 90, 1, 28],
  ] as const)('writes %p', (query, type, flags, length) => {
    const target = Buffer.alloc(RTNETLINK_QUERY_BYTES, 0xff);
    expect(encodeRtnetlinkQuery(target, SEQUENCE, query)).toBe(length);
    const numbers = [target.readUInt32LE(0), target.readUInt16LE(4), target.readUInt16LE(6)];
    expect([...numbers, target.readUInt32LE(8)]).toEqual([length, type, flags, SEQUENCE]);
  });
});

describe('decodeRtnetlinkAnswer()', () => {
  test('reads the ends of pairs, routes, numbers, ends and errors, each to its question alone', () => {
    const others = message(3, Buffer.alloc(4), { sequence: SEQUENCE + 1 });
    expect(
      decode(
        link('veth', u32(3)),
        link('veth', u32(4), attribute(10, u32(9))),
        route(),
        message(88, Buffer.concat([Buffer.alloc(4), attribute(1, u32(4))])),
        others,
        message(3, Buffer.alloc(4)),
        message(2, Buffer.from([0xff, 0xff, 0xff, 0xff])),
        message(3, Buffer.from([0xfe, 0xff, 0xff, 0xff])),
      ),
    ).toEqual([
      { kind: 'link', link: { interfaceIndex: 5, namespaceId: 3, isPart: false } },
      { kind: 'link', link: { interfaceIndex: 5, namespaceId: 4, isPart: true } },
      { kind: 'route', route: { address: '10.8.1.2', interfaceIndex: 5 } },
      { kind: 'namespace', id: 4 },
      { kind: 'done' },
      { kind: 'error', errorNumber: 1 },
      { kind: 'error', errorNumber: 2 },
    ]);
  });

  test('says when the kernel was interrupted', () => {
    expect(decodeRtnetlinkAnswer(message(3, Buffer.alloc(4), { flags: 0x10 }), SEQUENCE)).toEqual({
      messages: [{ kind: 'done' }],
      isInterrupted: true,
    });
  });

  test('takes no interface of another kind, and none whose other side has no number', () => {
    expect(decode(link('macvlan', u32(3)), link('vethx', u32(3)), link('veth', NONE))).toEqual([]);
    expect(decode(message(88, Buffer.concat([Buffer.alloc(4), attribute(1, NONE)])))).toEqual([
      { kind: 'namespace', id: undefined },
    ]);
  });

  test.each([
    ['a shorter prefix', { at: 1, value: 31 }],
    ['another table', { at: 4, value: 255 }],
    ['no protocol', { at: 5, value: 0 }],
    ['what ICMP redirected', { at: 5, value: 1 }],
    ['a route that refuses', { at: 7, value: 7 }],
    ['a dead one', { at: 8, value: 1 }],
    ['one that was made by the way', { at: 9, value: 2 }],
    ['one by a gateway', { more: [attribute(5, Uint8Array.of(10, 8, 1, 1))] }],
    ['one by several', { more: [attribute(9, u32(0))] }],
    ['one by a gateway of IPv6', { more: [attribute(18, u32(0))] }],
    ['an IPv4 address for IPv6', { at: 0, value: 10 }],
  ])('takes no route but one that somebody made for one address: not %s', (_, change) => {
    expect(decode(route(change))).toEqual([]);
  });

  test('takes of IPv6 no route that a router advertised, and of IPv4 one that the kernel made of an address', () => {
    const ipv6 = (protocol: number): Buffer => {
      const bytes = route({ at: 0, value: 10 });
      [bytes[17], bytes[21]] = [128, protocol];
      return bytes;
    };
    expect(decode(ipv6(3))).toEqual([{ kind: 'route', route: { address: 'fd00::2', interfaceIndex: 5 } }]);
    expect(decode(ipv6(2), ipv6(9))).toEqual([]);
    expect(decode(route({ at: 5, value: 2 }))).toHaveLength(1);
  });

  test('reads nothing of what is cut short, anywhere', () => {
    for (const whole of [link('veth', u32(3)), route(), message(88, Buffer.alloc(4))])
      for (let length = 0; length < whole.length; length++) {
        const cut = Buffer.from(whole.subarray(0, length));
        expect(decode(cut)).toEqual([]);
        if (length < 16) continue;
        // The message says itself that it is shorter.
        cut.writeUInt32LE(length, 0);
        for (const each of decode(cut)) expect(each).toEqual({ kind: 'namespace', id: undefined });
      }
  });
});
