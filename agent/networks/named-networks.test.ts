import { describe, expect, test } from 'bun:test';
import type { DecisionCaller } from '../../shared/policy/decision.ts';
import { parseCidr } from '../capture/cidr.ts';
import { NamedNetworks } from './named-networks.ts';

const networks = new NamedNetworks(
  new Map([
    ['office', ['192.0.2.0/24', '2001:db8:7::/48'].map(parseCidr)],
    ['guests', ['192.0.2.128/25'].map(parseCidr)],
    ['v6', ['::/0'].map(parseCidr)],
  ]),
);
const from = (address: string): DecisionCaller => ({
  spiffeId: null,
  address,
  port: 1,
  certificateNotAfterMs: 0,
});

describe('NamedNetworks', () => {
  test.each([
    ['192.0.2.1', { office: true, guests: false, v6: false }],
    ['192.0.2.128', { office: true, guests: true, v6: false }],
    ['192.0.3.0', { office: false, guests: false, v6: false }],
    ['::ffff:192.0.2.1', { office: true, guests: false, v6: false }],
    ['2001:db8:7:1::5', { office: true, guests: false, v6: true }],
    ['2001:db8:8::5', { office: false, guests: false, v6: true }],
    ['fe80::1%eth0', { office: false, guests: false, v6: true }],
    ['nonsense', { office: false, guests: false, v6: false }],
    ['', { office: false, guests: false, v6: false }],
  ])('locate() places %p', (address, expected) => {
    expect(networks.locate(from(address))).toEqual(expected);
  });

  test('locate() says nothing of names that nobody configured', () => {
    expect(new NamedNetworks(new Map()).locate(from('192.0.2.1'))).toEqual({});
  });
});
