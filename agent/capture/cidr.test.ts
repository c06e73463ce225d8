import { expect, test } from 'bun:test';
import { formatCidr, parseCidr, withoutNested } from './cidr.ts';

const READ = [
  ['10.0.0.0/8', '10.0.0.0/8'],
  ['10.1.2.3/8', '10.0.0.0/8'],
  ['10.1.2.3', '10.1.2.3/32'],
  ['10.1.2.255/25', '10.1.2.128/25'],
  ['0.0.0.0/0', '0.0.0.0/0'],
  ['fd09::1', 'fd09::1/128'],
  ['FD09:0::ffff/64', 'fd09::/64'],
  ['2001:db8:ff::/41', '2001:db8:80::/41'],
  ['::/0', '::/0'],
];

for (const [text = '', expected = ''] of READ)
  test(`parseCidr() reads ${text} as ${expected}`, () => {
    expect(formatCidr(parseCidr(text))).toBe(expected);
  });

const REFUSED = [
  '',
  '/8',
  '10.0.0.0/',
  '10.0.0.0/33',
  'fd00::/129',
  '10.0.0.0/8/8',
  '10.0.0.0/-1',
  '10.0.0.0/08',
];
const INJECTIONS = [
  '10.0.0.0/8 accept',
  '10.0.0.0/8\n',
  '10.0.0.0 }',
  '0.0.0.0/0; flush ruleset',
  'fe80::1%lo',
];

for (const text of [...REFUSED, ...INJECTIONS])
  test(`parseCidr() refuses ${JSON.stringify(text)}`, () => {
    expect(() => parseCidr(text)).toThrow(
      expect.objectContaining({ code: 'invalid_argument', reason: 'cidr_invalid' }),
    );
  });

test('withoutNested() keeps the widest of nested networks and all that lie apart', () => {
  const networks = ['192.168.3.0/24', '10.0.0.1', '192.168.0.0/16', 'fd09::/64', '10.0.0.1', 'fd09::1'];
  expect(withoutNested(networks.map(parseCidr)).map(formatCidr)).toEqual([
    '192.168.0.0/16',
    '10.0.0.1/32',
    'fd09::/64',
  ]);
});

test('withoutNested() lets 0.0.0.0/0 cover IPv4 and nothing of IPv6', () => {
  const networks = ['0.0.0.0/0', '10.0.0.1', 'fd09::1'].map(parseCidr);
  expect(withoutNested(networks).map(formatCidr)).toEqual(['0.0.0.0/0', 'fd09::1/128']);
});
