import { expect, test } from 'bun:test';
import { networkInterfaces } from 'node:os';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { canonicalAddress, isHostAddress, isLoopback } from './host-address.ts';
import { OwnAddresses } from './own-addresses.ts';

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:c000:0201', '192.0.2.1'],
  ['2001:DB8:0:0::1', '2001:db8::1'],
  ['fe80::1%eth0', undefined],
  ['192.0.2', undefined],
  ['example.org', undefined],
  ['', undefined],
])('canonicalAddress(%p) is %p', (text, expected) => {
  expect(canonicalAddress(text)).toBe(expected);
});

test.each([
  ['127.0.0.1', true, false],
  ['127.255.0.9', true, false],
  ['0.0.0.0', true, false],
  ['::', true, false],
  ['::1', true, false],
  ['169.254.1.1', false, false],
  ['fe80::1', false, false],
  ['224.0.0.1', false, false],
  ['ff02::1', false, false],
  ['255.255.255.255', false, false],
  ['10.0.0.1', false, true],
  ['fd00::1', false, true],
  ['2001:db8::1', false, true],
])('%s is loopback: %p, one host’s own: %p', (address, loopback, own) => {
  expect([isLoopback(address), isHostAddress(address)]).toEqual([loopback, own]);
});

test('OwnAddresses knows the addresses of the interfaces and claims none that others have too', () => {
  const own = new OwnAddresses(new FakeClock());
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  for (const { address } of all) expect(own.has(canonicalAddress(address) ?? '')).toBe(true);
  expect(own.has('192.0.2.250')).toBe(false);
  expect(own.claimable()).not.toContain('127.0.0.1');
  expect(own.claimable().every(isHostAddress)).toBe(true);
});
