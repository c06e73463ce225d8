import { describe, expect, test } from 'bun:test';
import type { StreamFailure } from './byte-stream.ts';
import { OpenConnections, type OpenConnection } from './connections.ts';

const KNOWN = { isStranger: false };
const STRANGER = { isStranger: true };
const LOST: StreamFailure = { reason: 'policy_deny', message: 'The permit is gone' };

class Connection implements OpenConnection {
  failure: StreamFailure | undefined;
  readonly cuts: StreamFailure[] = [];
  readonly isStranger: boolean;

  constructor(isStranger = false) {
    this.isStranger = isStranger;
  }

  reconsider(): StreamFailure | undefined {
    return this.failure;
  }

  cut(failure: StreamFailure): void {
    this.cuts.push(failure);
  }
}

describe('OpenConnections', () => {
  test('tryEnter() gives out so many places, and each comes back once', () => {
    const connections = new OpenConnections(2);
    const leave = connections.tryEnter(KNOWN);
    expect(connections.tryEnter(KNOWN)).toBeDefined();
    expect(connections.tryEnter(KNOWN)).toBeUndefined();
    leave?.();
    leave?.();
    expect(connections.size).toBe(1);
    expect(connections.tryEnter(KNOWN)).toBeDefined();
    expect(connections.tryEnter(KNOWN)).toBeUndefined();
  });

  test('tryEnter() counts open connections too', () => {
    const connections = new OpenConnections(1);
    const remove = connections.add(new Connection(), 0);
    expect(connections.tryEnter(KNOWN)).toBeUndefined();
    remove?.();
    remove?.();
    expect(connections.size).toBe(0);
    expect(connections.tryEnter(KNOWN)).toBeDefined();
  });

  test('tryEnter() gives strangers half of the places, whether they are being set up or open', () => {
    const connections = new OpenConnections(4);
    const leave = connections.tryEnter(STRANGER);
    const remove = connections.add(new Connection(true), 0);
    expect(connections.tryEnter(STRANGER)).toBeUndefined();
    expect([connections.tryEnter(KNOWN), connections.tryEnter(KNOWN)]).not.toContain(undefined);
    expect(connections.tryEnter(KNOWN)).toBeUndefined();
    for (const end of [leave, leave, remove, remove]) end?.();
    expect(connections.tryEnter(STRANGER)).toBeDefined();
    connections.cutAll(LOST);
    expect(connections.tryEnter(STRANGER)).toBeDefined();
  });

  test('reconsiderAll() cuts those that lost their permit, once', () => {
    const connections = new OpenConnections(9);
    const [kept, lost] = [new Connection(), new Connection()];
    connections.add(kept, 0);
    connections.add(lost, 0);
    lost.failure = LOST;
    connections.reconsiderAll();
    connections.reconsiderAll();
    expect([kept.cuts, lost.cuts, connections.size]).toEqual([[], [LOST], 1]);
  });

  test('add() judges at once what was permitted before everything was judged again', () => {
    const connections = new OpenConnections(9);
    const before = connections.round;
    connections.reconsiderAll();
    const [kept, lost, newer] = [new Connection(), new Connection(), new Connection()];
    for (const connection of [lost, newer]) connection.failure = LOST;
    expect(connections.add(kept, before)).toBeDefined();
    expect(connections.add(lost, before)).toBeUndefined();
    expect(connections.add(newer, connections.round)).toBeDefined();
    expect([kept.cuts, lost.cuts, newer.cuts, connections.size]).toEqual([[], [LOST], [], 2]);
  });

  test('cutAll() ends every connection', () => {
    const connections = new OpenConnections(9);
    const all = [new Connection(), new Connection()];
    for (const connection of all) connections.add(connection, 0);
    connections.cutAll(LOST);
    expect(all.map((connection) => connection.cuts)).toEqual([[LOST], [LOST]]);
    expect(connections.size).toBe(0);
  });
});
