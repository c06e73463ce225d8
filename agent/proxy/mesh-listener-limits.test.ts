import { describe, expect, test } from 'bun:test';
import { ConnectionPlaces, type Place } from './mesh-listener-limits.ts';

const LIMITS = { maxConnections: 8, maxConnectionsPerPeer: 6, maxHandshakes: 4, maxHandshakesPerPeer: 3 };

class Rig {
  readonly places = new ConnectionPlaces(LIMITS);
  readonly gone: string[] = [];

  enter(address: string, name: string): Place | undefined {
    return this.places.tryEnter(address, () => this.gone.push(name));
  }

  /** One whose handshake has ended. */
  settle(address: string): void {
    this.enter(address, 'settled')?.settle();
  }
}

describe('ConnectionPlaces', () => {
  test('the oldest handshake of a peer that has too many gives way, not that of another', () => {
    const { places, gone } = fill(new Rig(), ['b', 'a', 'a', 'a']);
    expect(places.tryEnter('a', () => undefined)).toBeDefined();
    expect(gone).toEqual(['a1']);
    expect(places.connections).toBe(4);
  });

  test('the oldest handshake of all gives way when there are too many', () => {
    const { places, gone } = fill(new Rig(), ['a', 'b', 'c', 'd']);
    for (const address of ['e', 'f']) expect(places.tryEnter(address, () => undefined)).toBeDefined();
    expect(gone).toEqual(['a0', 'b1']);
    expect(places.connections).toBe(4);
  });

  test('a connection whose handshake has ended never gives way: new ones are refused', () => {
    const rig = new Rig();
    for (let i = 0; i < LIMITS.maxConnectionsPerPeer; i++) rig.settle('a');
    expect(rig.enter('a', 'more')).toBeUndefined();
    rig.settle('b');
    rig.settle('b');
    expect(rig.enter('c', 'more')).toBeUndefined();
    expect(rig.gone).toEqual([]);
    expect(rig.places.connections).toBe(LIMITS.maxConnections);
  });

  test('a place comes back once, whoever gives it back', () => {
    const rig = new Rig();
    const place = rig.enter('a', 'a0');
    for (const address of ['b', 'c', 'd', 'e']) rig.enter(address, address);
    expect(rig.gone).toEqual(['a0']);
    place?.settle();
    place?.leave();
    place?.leave();
    expect(rig.places.connections).toBe(4);
  });
});

/** Handshakes of these addresses, each named by its address and its number. */
function fill(rig: Rig, addresses: readonly string[]): Rig {
  for (const [i, address] of addresses.entries()) rig.enter(address, `${address}${i}`);
  return rig;
}
