import { describe, expect, test } from 'bun:test';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { OpenConnections, type OpenConnection, type Party } from './connections.ts';

const ALICE: Party = { name: 'alice' };
const BOB: Party = { name: 'bob' };
const LOST: StreamFailure = { reason: 'policy_deny', message: 'The permit is gone' };

class Connection implements OpenConnection {
  failure: StreamFailure | undefined;
  readonly cuts: StreamFailure[] = [];
  retirements = 0;
  readonly party: Party;

  constructor(party = ALICE) {
    this.party = party;
  }

  reconsider(): StreamFailure | undefined {
    return this.failure;
  }

  cut(failure: StreamFailure): void {
    this.cuts.push(failure);
  }

  retire(): void {
    this.retirements += 1;
  }
}

describe('OpenConnections', () => {
  test('retireAll() tells each once, who comes later too, but for who has lost its permit meanwhile', () => {
    const connections = open(8);
    const [before, after, late] = [new Connection(), new Connection(), new Connection()];
    connections.add(before, 0);
    connections.retireAll();
    connections.watch(after, 0);
    late.failure = LOST;
    connections.reconsiderAll();
    connections.add(late, 0);
    expect([before, after, late].map(({ retirements }) => retirements)).toEqual([1, 1, 0]);
    expect(late.cuts).toEqual([LOST]);
  });

  test('tryEnter() gives out so many places, and each comes back once', () => {
    const connections = open(2);
    const leave = connections.tryEnter(ALICE);
    expect(connections.tryEnter(ALICE)).toBeDefined();
    expect(connections.tryEnter(ALICE)).toBeUndefined();
    leave?.();
    leave?.();
    expect(connections.size).toBe(1);
    expect(connections.tryEnter(ALICE)).toBeDefined();
    expect(connections.tryEnter(ALICE)).toBeUndefined();
  });

  test('tryEnter() counts open connections too', () => {
    const connections = open(1);
    const remove = connections.add(new Connection(), 0);
    expect(connections.tryEnter(ALICE)).toBeUndefined();
    remove?.();
    remove?.();
    expect(connections.size).toBe(0);
    expect(connections.tryEnter(ALICE)).toBeDefined();
  });

  test('tryEnter() leaves places to others, however many one party asks for, set up or open', () => {
    const connections = open(8);
    const leave = connections.tryEnter(ALICE);
    const remove = connections.add(new Connection(ALICE), 0);
    expect(countOf(connections, ALICE)).toBe(4);
    expect(countOf(connections, BOB)).toBe(2);
    expect(connections.size).toBe(8);
    for (const end of [leave, leave, remove, remove]) end?.();
    expect(connections.size).toBe(6);
    expect(connections.tryEnter(BOB)).toBeDefined();
  });

  test('tryEnter() leaves places of a host to the others of that host, and to other hosts theirs', () => {
    const connections = open(80, 8);
    const [alice, bob] = [ALICE, BOB].map((party) => ({ ...party, host: '192.0.2.1' })) as [Party, Party];
    expect(countOf(connections, alice)).toBe(6);
    const leave = connections.tryEnter(bob);
    expect(countOf(connections, bob)).toBe(1);
    expect(countOf(connections, { ...alice, host: '192.0.2.2' })).toBe(6);
    leave?.();
    expect(connections.tryEnter(bob)).toBeDefined();
  });

  test('reconsiderAll() cuts those that lost their permit, once', () => {
    const connections = open(9);
    const [kept, lost] = [new Connection(), new Connection()];
    connections.add(kept, 0);
    connections.add(lost, 0);
    lost.failure = LOST;
    connections.reconsiderAll();
    connections.reconsiderAll();
    expect([kept.cuts, lost.cuts, connections.size]).toEqual([[], [LOST], 1]);
  });

  test('reconsiderAll() cuts all ends that somebody may wait at before it closes the others', () => {
    const connections = open(9);
    const order: string[] = [];
    for (const name of ['a', 'b']) {
      const cut = (): void => void order.push(`cut ${name}`);
      const close = (): void => void order.push(`close ${name}`);
      connections.add({ party: ALICE, reconsider: () => LOST, cut, close }, 0);
    }
    connections.reconsiderAll();
    expect(order).toEqual(['cut a', 'cut b', 'close a', 'close b']);
    const both = new Connection();
    connections.add(Object.assign(both, { close: () => void order.push('closed') }), connections.round);
    connections.cutAll(LOST);
    expect([both.cuts.length, order.at(-1)]).toEqual([1, 'closed']);
  });

  test('reconsiderAll() cuts what cannot be judged, and the others all the same, whatever one of them throws', () => {
    const connections = open(9);
    const fault = (): never => {
      throw new Error('a fault');
    };
    const cuts: string[] = [];
    connections.add({ party: ALICE, reconsider: fault, cut: () => void cuts.push('unjudged') }, 0);
    connections.add({ party: ALICE, reconsider: () => LOST, cut: fault, close: fault }, 0);
    const last = new Connection();
    last.failure = LOST;
    connections.add(last, 0);
    expect(() => connections.reconsiderAll()).toThrow('a fault');
    expect([cuts, last.cuts, connections.size]).toEqual([['unjudged'], [LOST], 0]);
  });

  test('reconsiderNext() goes on behind the last one without whoever went, and takes whoever came the next time', () => {
    const connections = open(9);
    const judged: string[] = [];
    const enter = (name: string): (() => void) =>
      connections.add({ party: ALICE, reconsider: () => void judged.push(name), cut: () => undefined }, 0)!;
    const two = (): (() => boolean) => {
      let left = 2;
      return () => left-- > 0;
    };
    enter('a');
    enter('b');
    const leaveC = enter('c');
    connections.reconsiderNext(two());
    expect(judged).toEqual(['a', 'b']);
    leaveC();
    enter('d');
    connections.reconsiderNext(two());
    expect(judged).toEqual(['a', 'b']);
    connections.reconsiderNext(() => true);
    connections.reconsiderNext(() => true);
    expect(judged.slice(2)).toEqual(['a', 'b', 'd', 'a', 'b', 'd']);
  });

  test('reconsiderNext() comes back to the old ones, though somebody new comes for each that is judged', () => {
    const connections = open(99);
    let judgements = 0;
    const old = new Connection();
    const bringAnother = (): void => {
      const reconsider = (): undefined => {
        judgements += 1;
        leave?.();
        bringAnother();
      };
      const leave = connections.add({ party: BOB, reconsider, cut: () => undefined }, 0);
    };
    connections.add(old, 0);
    bringAnother();
    connections.reconsiderNext(() => judgements < 9);
    old.failure = LOST;
    for (let call = 0; call < 4; call += 1) connections.reconsiderNext(() => judgements < 99);
    expect(old.cuts).toEqual([LOST]);
  });

  test('reconsiderNext() cuts who lost the permit, and who cannot be judged', () => {
    const connections = open(9);
    const [lost, kept, unjudged] = [new Connection(), new Connection(), new Connection()];
    for (const connection of [unjudged, lost, kept]) connections.add(connection, 0);
    lost.failure = LOST;
    unjudged.reconsider = () => {
      throw new Error('a fault');
    };
    expect(() => connections.reconsiderNext(() => true)).toThrow('a fault');
    connections.reconsiderNext(() => true);
    expect([unjudged.cuts.length, lost.cuts, kept.cuts, connections.size]).toEqual([1, [LOST], [], 1]);
  });

  test('add() judges at once what was permitted before everything was judged again', () => {
    const connections = open(9);
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
    const connections = open(9);
    const all = [new Connection(), new Connection()];
    for (const connection of all) connections.add(connection, 0);
    connections.cutAll(LOST);
    expect(all.map((connection) => connection.cuts)).toEqual([[LOST], [LOST]]);
    expect(connections.size).toBe(0);
  });
});

function open(max: number, maxPerHost = max): OpenConnections {
  return new OpenConnections({ max, maxPerHost });
}

/** How many more places a party gets. */
function countOf(connections: OpenConnections, party: Party): number {
  for (let count = 0; ; count++) if (connections.tryEnter(party) === undefined) return count;
}
