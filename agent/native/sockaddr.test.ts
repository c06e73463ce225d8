import { expect, test } from 'bun:test';
import { allocateNative } from './libc.ts';
import { decodeSockaddr, encodeSockaddr, isIpv4Sockaddr } from './sockaddr.ts';

for (const address of ['127.0.0.1', 'fd09::2'])
  test(`decodeSockaddr() reads what encodeSockaddr() wrote for ${address}`, () => {
    const target = allocateNative(28).fill(0xee);
    const length = encodeSockaddr(target, { address, port: 65_535 });
    expect(decodeSockaddr(target.subarray(0, length))).toEqual({ address, port: 65_535 });
  });

test('decodeSockaddr() reads an IPv4-mapped address as IPv4', () => {
  const target = allocateNative(28);
  encodeSockaddr(target, { address: '::ffff:10.9.0.1', port: 80 });
  expect(decodeSockaddr(target)).toEqual({ address: '10.9.0.1', port: 80 });
  expect(isIpv4Sockaddr(target)).toBe(true);
});

test('decodeSockaddr() refuses every family but IPv4 and IPv6, and too few bytes', () => {
  const target = allocateNative(28);
  for (let family = 0; family < 256; family++) {
    target[0] = family;
    expect(decodeSockaddr(target) !== undefined).toBe(family === 2 || family === 10);
  }
  target[0] = 2;
  expect(decodeSockaddr(target.subarray(0, 7))).toBeUndefined();
  target[0] = 10;
  expect(decodeSockaddr(target.subarray(0, 23))).toBeUndefined();
  expect(decodeSockaddr(new Uint8Array())).toBeUndefined();
});
