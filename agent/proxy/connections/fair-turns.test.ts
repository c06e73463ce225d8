import { beforeEach, describe, expect, test } from 'bun:test';
import { FairTurns, type ConnectionTurns } from './fair-turns.ts';

let nowMs: number;
let order: string[];
let nextTurns: (() => void)[];
let turns: FairTurns;
beforeEach(() => {
  [nowMs, order, nextTurns] = [0, [], []];
  turns = new FairTurns({ monotonicMs: () => nowMs }, (work) => nextTurns.push(work));
});

/** The event loop comes round. */
function nextTurn(): void {
  for (const work of nextTurns.splice(0)) work();
}

/** A connection that has `left` requests, each of which takes some time, and reads as many as it may. */
class Client {
  readonly #party: string;
  readonly #requestMs: number;
  readonly #turns: ConnectionTurns;
  left = 0;

  constructor(party: string, requestMs: number) {
    this.#party = party;
    this.#requestMs = requestMs;
    this.#turns = turns.join(party, () => this.read());
  }

  asks(count: number): this {
    this.left += count;
    this.read();
    return this;
  }

  read(): void {
    if (!this.#turns.begin()) return;
    while (this.left > 0) {
      nowMs += this.#requestMs;
      this.left -= 1;
      order.push(this.#party);
      if (!this.#turns.isOver) continue;
      this.#turns.wait();
      break;
    }
    this.#turns.end();
  }
}

const crowd = (count: number, requestMs: number): readonly Client[] =>
  Array.from({ length: count }, () => new Client('crowd', requestMs).asks(1000));

describe('FairTurns', () => {
  test('lets all connections together use the time of one turn, however many they are', () => {
    crowd(60, 0.25);
    expect(nowMs).toBe(5);
    for (let turn = 2; turn <= 4; turn += 1) {
      nextTurn();
      expect(nowMs).toBe(5 * turn);
    }
  });

  test('lets who has one request wait for one share of every other party, whatever others do', () => {
    crowd(60, 0.25);
    for (let i = 0; i < 60; i += 1) new Client('another crowd', 10).asks(1000);
    new Client('somebody', 0.25).asks(1);
    order = [];
    nextTurn();
    nextTurn();
    const before = order.slice(0, order.indexOf('somebody'));
    expect(before).toEqual(['crowd', 'crowd', 'crowd', 'crowd', 'another crowd']);
  });

  test('serves the connections of one party in their order', () => {
    const clients = crowd(10, 1);
    expect(clients.map(({ left }) => left)).toEqual([999, 999, 999, 999, 999, 1000, 1000, 1000, 1000, 1000]);
    nextTurn();
    nextTurn();
    expect(clients.map(({ left }) => left)).toEqual([998, 998, 998, 998, 998, 999, 999, 999, 999, 999]);
  });

  test('makes nobody wait, and asks for no turn, while less is used than there is', () => {
    const clients = Array.from({ length: 40 }, (_, i) => new Client(`party ${i}`, 0.1));
    for (let round = 0; round < 50; round += 1, nowMs += 20) for (const client of clients) client.asks(1);
    expect([order.length, nextTurns.length]).toEqual([2000, 0]);
  });

  test('one request that took all of a turn leaves the next one to others', () => {
    new Client('crowd', 50).asks(3);
    const somebody = new Client('somebody', 1).asks(1);
    expect([somebody.left, order.length]).toEqual([1, 1]);
    nextTurn();
    nextTurn();
    expect([somebody.left, order]).toEqual([0, ['crowd', 'crowd', 'somebody', 'crowd']]);
  });

  test('serves the others where one of them throws', () => {
    crowd(5, 1);
    turns
      .join('bad', () => {
        throw new Error('a fault');
      })
      .wait();
    const somebody = new Client('somebody', 1).asks(1);
    expect(() => {
      for (let turn = 0; turn < 9; turn += 1) nextTurn();
    }).toThrow('a fault');
    nextTurn();
    expect(somebody.left).toBe(0);
  });
});
