import { expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { isNodeAddress, parseNodeAddress } from './node-address.ts';

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['10.0.0.1', '10.0.0.1'],
  ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
  ['fd00::a', 'fd00::a'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::ffff:c000:201', '192.0.2.1'],
])('parseNodeAddress() gives %s its one spelling', (text, expected) => {
  expect(parseNodeAddress(text)).toBe(expected as never);
  expect(isNodeAddress(text)).toBe(true);
});

test.each([
  '127.0.0.1',
  '127.255.255.255',
  '0.0.0.0',
  '0.1.2.3',
  '169.254.1.1',
  '224.0.0.1',
  '239.255.255.255',
  '255.255.255.255',
  '::1',
  '::',
  '::7f00:1',
  'fe80::1',
  'febf::1',
  'fe80::1%eth0',
  'ff02::1',
  '::ffff:127.0.0.1',
  '::ffff:a9fe:101',
  '',
  '1.2.3',
  '01.2.3.4',
  '1.2.3.4:80',
  'host.example',
  '2001:db8::1]/',
  '2001:db8::g',
  'x'.repeat(10_000),
])('parseNodeAddress() refuses %p', (text) => {
  expect(isNodeAddress(text)).toBe(false);
  expect(() => parseNodeAddress(text)).toThrow(PicketError);
  expect(() => parseNodeAddress(text)).toThrow(
    expect.objectContaining({ reason: 'address_invalid' }) as Error,
  );
});
