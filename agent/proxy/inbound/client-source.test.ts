import { describe, expect, test } from 'bun:test';
import { refusalOf } from '../../../tests/kit/refusal-of.ts';
import { findClientSource } from './client-source.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';

const directory = new InMemoryDirectory();
directory.ownAddresses.add('10.0.0.2').add('fd00::2').add('10.0.8.2');
const from = (address: string, to = '10.0.0.2') => ({
  source: { address, port: 40_000 },
  destination: { address: to, port: 80 },
  isLocal: false,
});

describe('findClientSource()', () => {
  test('is the address of the TCP peer, in one spelling', () => {
    expect(findClientSource(from('10.0.0.1'), { directory })).toBe('10.0.0.1');
    expect(findClientSource(from('::ffff:10.0.0.1'), { directory })).toBe('10.0.0.1');
    expect(findClientSource(from('FD00:0::1', 'fd00::2'), { directory })).toBe('fd00::1');
  });

  test('is nobody’s for a caller on this host, which has its address anyway', () => {
    expect(findClientSource({ ...from('10.0.0.2'), isLocal: true }, { directory })).toBeUndefined();
    expect(
      findClientSource({ ...from('127.0.0.1', '127.0.0.1'), isLocal: true }, { directory }),
    ).toBeUndefined();
  });

  test.each([
    ['an address of this host', from('10.0.0.2'), 'the caller is not'],
    ['one of a namespace of this host', from('10.0.8.2'), 'the caller is not'],
    ['the same of IPv6', from('fd00::2', 'fd00::2'), 'the caller is not'],
    ['loopback', from('127.0.0.9'), 'no address of one host'],
    ['loopback in another spelling', from('::ffff:127.0.0.1'), 'no address of one host'],
    ['the unspecified address', from('0.0.0.0'), 'no address of one host'],
    ['multicast', from('224.0.0.1'), 'no address of one host'],
    ['a link-local address', from('fe80::1%eth0', 'fd00::2'), 'no address of one host'],
    ['no address', from('localhost'), 'no address of one host'],
    ['the other family', from('10.0.0.1', 'fd00::2'), 'of the other family'],
    ['the other family', from('fd00::1'), 'of the other family'],
  ])('refuses %s', async (_, arrival, why) => {
    const refusal = await refusalOf(Promise.try(() => findClientSource(arrival, { directory })));
    expect(refusal).toMatchObject({ code: 'unavailable', reason: 'dial_failed' });
    expect(refusal.message).toContain(why);
  });
});
