import { expect, test } from 'bun:test';
import { decodeIpAddress, encodeIpAddress, isIpv4Mapped } from './ip-address.ts';

const CANONICAL = [
  '0.0.0.0',
  '10.9.0.1',
  '255.255.255.255',
  '::',
  '::1',
  'fd09::2',
  '2001:db8::1:0:0:1',
  '2001:db8:0:1:1:1:1:1',
  '1:0:0:2::',
  '1::2:0:0:3:4',
  'fe80::1:2:3:4',
  '1:2:3:4:5:6:7:8',
];

for (const address of CANONICAL)
  test(`decodeIpAddress() gives back ${address} as RFC 5952 spells it`, () => {
    expect(decodeIpAddress(encodeIpAddress(address))).toBe(address);
  });

test('encodeIpAddress() reads every spelling of one IPv6 address alike', () => {
  const spellings = ['2001:DB8::a00:1', '2001:db8:0:0:0:0:a00:1', '2001:0db8::10.0.0.1'];
  for (const spelling of spellings)
    expect(decodeIpAddress(encodeIpAddress(spelling))).toBe('2001:db8::a00:1');
});

test('decodeIpAddress() writes an IPv4-mapped address as IPv4', () => {
  const mapped = encodeIpAddress('::ffff:10.9.0.1');
  expect(isIpv4Mapped(mapped)).toBe(true);
  expect(decodeIpAddress(mapped)).toBe('10.9.0.1');
  expect(isIpv4Mapped(encodeIpAddress('::fffe:10.9.0.1'))).toBe(false);
});

const NOT_ADDRESSES = [
  '',
  'localhost',
  '1.2.3',
  '1.2.3.256',
  '01.2.3.4',
  '1::2::3',
  ':::',
  'fe80::1%eth0',
  '10.0.0.0/8',
  '::1 ',
];

for (const text of NOT_ADDRESSES)
  test(`encodeIpAddress() refuses ${JSON.stringify(text)}`, () => {
    expect(() => encodeIpAddress(text)).toThrow(TypeError);
  });
