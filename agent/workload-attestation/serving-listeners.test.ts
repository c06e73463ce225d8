import { describe, expect, test } from 'bun:test';
import type { TcpSocket } from '../native/sock-diag-message.ts';
import { servingListeners } from './serving-listeners.ts';

function listenerAt(address: string, more: Partial<TcpSocket> = {}): TcpSocket {
  return {
    local: { address, port: 80 },
    remote: { address: '0.0.0.0', port: 0 },
    uid: 0,
    inode: 1,
    cookie: 1n,
    interfaceIndex: 0,
    isIpv6: address.includes(':'),
    isIpv6Only: false,
    ...more,
  };
}

const any4 = listenerAt('0.0.0.0');
const any6 = listenerAt('::');
const only6 = listenerAt('::', { isIpv6Only: true });
const here4 = listenerAt('10.0.0.1');
const here6 = listenerAt('fd09::1');
const bound = listenerAt('10.0.0.1', { interfaceIndex: 2 });
const loopback = listenerAt('127.0.0.1');

describe('servingListeners()', () => {
  test.each([
    ['its own address goes before any address', '10.0.0.1', [any4, here4, any6], [here4]],
    ['a listener of one interface does not', '10.0.0.1', [any4, bound], [bound, any4]],
    ['any address of either family takes IPv4', '10.0.0.1', [any4, any6, loopback], [any4, any6]],
    ['a listener of IPv6 alone does not', '10.0.0.1', [only6], []],
    ['IPv6 is taken by IPv6', 'fd09::1', [any4, only6, any6], [only6, any6]],
    ['an IPv6 address goes before any', 'fd09::1', [any6, here6], [here6]],
    ['all that share an address', '10.0.0.1', [here4, here4], [here4, here4]],
    ['other addresses do not serve it', '10.0.0.1', [loopback, here6], []],
  ] as const)('%s', (_name, address, listeners, expected) => {
    expect(servingListeners({ address, port: 80 }, listeners)).toEqual([...expected]);
  });

  test('another port does not serve it', () => {
    expect(servingListeners({ address: '10.0.0.1', port: 81 }, [any4, here4])).toEqual([]);
  });
});
