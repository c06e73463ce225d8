import { describe, expect, test } from 'bun:test';
import {
  decodeRecord,
  describeNetwork,
  describeNumber,
  encodeNetwork,
  encodeNumber,
  encodeSteeringAddress,
  RECORD_BYTES,
  type SteeringNetwork,
} from './steering-maps.ts';

describe('the keys of steering', () => {
  test('encodeNumber() writes ports as they stand in a packet, and users as they are', () => {
    expect(encodeNumber('localPort', 5432).toString('hex')).toBe('0300000015380000');
    expect(encodeNumber('user', 0xffff_fffe).toString('hex')).toBe('01000000feffffff');
  });

  test('describeNumber() tells what encodeNumber() was given', () => {
    expect(describeNumber(encodeNumber('user', 4711))).toBe('user 4711');
    for (const port of [1, 255, 256, 5432, 65_535]) {
      expect(describeNumber(encodeNumber('localPort', port))).toBe(`local port ${port}`);
      expect(describeNumber(encodeNumber('outboundPort', port))).toBe(`outbound port ${port}`);
    }
  });

  test('encodeNetwork() counts the bits from the kind on, and maps IPv4 into IPv6', () => {
    expect(
      encodeNetwork({ kind: 'udp', address: '192.0.2.53', prefixBits: 32, port: 53 }).toString('hex'),
    ).toBe('a00000000200003500000000000000000000ffffc0000235');
    expect(
      encodeNetwork({ kind: 'tcp', address: '2001:db8::', prefixBits: 32, port: 0 }).toString('hex'),
    ).toBe('400000000100000020010db8000000000000000000000000');
  });

  test('describeNetwork() tells what encodeNetwork() was given', () => {
    const networks: readonly (readonly [SteeringNetwork, string])[] = [
      [{ kind: 'tcp', address: '0.0.0.0', prefixBits: 0, port: 0 }, 'tcp 0.0.0.0/0'],
      [{ kind: 'tcp', address: '::', prefixBits: 0, port: 0 }, 'tcp ::/0'],
      [{ kind: 'udp', address: '10.0.0.0', prefixBits: 8, port: 123 }, 'udp 10.0.0.0/8 port 123'],
      [{ kind: 'udp', address: 'fd00::1', prefixBits: 128, port: 53 }, 'udp fd00::1/128 port 53'],
    ];
    for (const [network, text] of networks) expect(describeNetwork(encodeNetwork(network))).toBe(text);
  });
});

describe('decodeRecord()', () => {
  test('reads what a program wrote, of either family', () => {
    const value = Buffer.alloc(RECORD_BYTES);
    value.set(encodeSteeringAddress('10.0.0.2'));
    value.writeUInt16BE(5432, 16);
    value.writeUInt32LE(11, 24);
    value.writeUInt32LE(12, 28);
    value.writeUInt32LE(1000, 32);
    value.writeUInt32LE(1001, 36);
    expect(decodeRecord(value)).toEqual({
      destination: { address: '10.0.0.2', port: 5432 },
      pid: 12,
      uid: 1000,
    });
    value.set(encodeSteeringAddress('fd00::2'));
    expect(decodeRecord(value).destination.address).toBe('fd00::2');
  });

  test('refuses what is cut short', () => {
    for (let length = 0; length < 36; length++) expect(() => decodeRecord(Buffer.alloc(length))).toThrow();
  });
});
