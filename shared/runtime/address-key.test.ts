import { describe, expect, test } from 'bun:test';
import { addressKey } from './address-key.ts';

describe('addressKey()', () => {
  test('addressKey() keeps IPv4 whole, also when mapped, and cuts IPv6 to its /64', () => {
    const expected: Readonly<Record<string, string>> = {
      '192.0.2.1': '192.0.2.1',
      '::ffff:192.0.2.1': '192.0.2.1',
      '2001:db8:1:2:3:4:5:6': '2001:db8:1:2::/64',
      '2001:db8:1:2::9': '2001:db8:1:2::/64',
      '2001:db8::9': '2001:db8:0:0::/64',
      '::1': '0:0:0:0::/64',
      'fe80::1%eth0': 'fe80:0:0:0::/64',
      local: 'local',
    };
    for (const [address, key] of Object.entries(expected)) expect(addressKey(address)).toBe(key);
  });
});
