import { describe, expect, test } from 'bun:test';
import { ConnectionPlaces, type Place } from './listener-limits.ts';

const LIMITS = { maxConnections: 8, maxConnectionsPerPeer: 6, maxHandshakes: 4, maxHandshakesPerPeer: 3 };

class Rig {
  readonly places = new ConnectionPlaces(LIMITS);
  readonly gone: string[] = [];

  enter(address: string, name: string): Place | undefined {
    return this.places.tryEnter({ address, giveWay: () => this.gone.push(name) });
  }

  /** Handshakes of these addresses, each named by its address and its number. */
  fill(...addresses: readonly string[]): this {
    for (const [i, address] of addresses.entries()) this.enter(address, `${address}${i}`);
    return this;
  }

  /** One that carries something. */
  carry(address: string): void {
    this.enter(address, 'busy')?.busy();
  }
}

describe('ConnectionPlaces', () => {
  test('the oldest handshake of a peer that has too many gives way, not that of another', () => {
    const rig = new Rig().fill('b', 'a', 'a', 'a');
    expect(rig.enter('a', 'new')).toBeDefined();
    expect(rig.gone).toEqual(['a1']);
    expect(rig.places.connections).toBe(4);
  });

  test('when there are too many handshakes the oldest of whoever has the most gives way, not the oldest of all', () => {
    const rig = new Rig().fill('honest', 'a', 'a', 'b');
    for (const address of ['e', 'f']) expect(rig.enter(address, address)).toBeDefined();
    expect(rig.gone).toEqual(['a1', 'honest0']);
  });

  test('addresses of one IPv6 network count as one that has the most', () => {
    const rig = new Rig().fill('2001:db8::1', '2001:db8:0:1::7', '2001:db8:0:1::8', '192.0.2.1');
    expect(rig.enter('192.0.2.2', 'new')).toBeDefined();
    expect(rig.gone).toEqual(['2001:db8:0:1::71']);
  });

  test('where all places of a peer are taken its oldest handshake gives way, then what carries nothing', () => {
    const rig = new Rig();
    for (let i = 0; i < LIMITS.maxConnectionsPerPeer - 2; i++) rig.carry('a');
    rig.enter('a', 'idle')?.idle();
    rig.enter('a', 'handshake');
    for (const name of ['one', 'two']) rig.enter('a', name)?.busy();
    expect(rig.gone).toEqual(['handshake', 'idle']);
    expect(rig.enter('a', 'more')).toBeUndefined();
    expect(rig.enter('b', 'other')).toBeDefined();
  });

  test('where all places are taken a handshake of whoever has the most gives way, then what carries nothing', () => {
    const rig = new Rig();
    for (let i = 0; i < 5; i++) rig.carry('a');
    rig.enter('b', 'idle')?.idle();
    rig.fill('b', 'c');
    rig.enter('d', 'd')?.busy();
    rig.enter('e', 'e')?.busy();
    rig.enter('f', 'f')?.busy();
    expect(rig.gone).toEqual(['b0', 'c1', 'idle']);
    expect(rig.enter('g', 'more')).toBeUndefined();
    expect(rig.places.connections).toBe(LIMITS.maxConnections);
  });

  test('a connection that carries something gives way again once it carries nothing', () => {
    const rig = new Rig();
    for (let i = 0; i < LIMITS.maxConnectionsPerPeer - 1; i++) rig.carry('a');
    const place = rig.enter('a', 'first');
    place?.busy();
    expect(rig.enter('a', 'more')).toBeUndefined();
    place?.idle();
    expect(rig.enter('a', 'more')).toBeDefined();
    expect(rig.gone).toEqual(['first']);
  });

  test('a place comes back once, whoever gives it back', () => {
    const rig = new Rig();
    const place = rig.enter('a', 'a0');
    rig.fill('b', 'c', 'd', 'e');
    expect(rig.gone).toEqual(['a0']);
    place?.idle();
    place?.leave();
    place?.leave();
    expect(rig.places.connections).toBe(4);
  });
});
