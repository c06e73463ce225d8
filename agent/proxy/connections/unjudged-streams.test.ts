import { describe, expect, test } from 'bun:test';
import { OpenConnections, type OpenConnection } from './connections.ts';
import type { MayGoOn } from './piecewise.ts';
import { MAX_PASSES, type StreamsPass } from './unjudged-streams.ts';

/** A connection with so many streams, numbered from 1; it tells what became of it. */
class Carrier implements OpenConnection {
  readonly party = { name: 'alice' };
  readonly judged: number[] = [];
  isHeld = false;
  cuts = 0;
  /** Called for each stream that is judged. */
  onJudged: (stream: number) => void = () => undefined;
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  reconsider(): undefined {
    return undefined;
  }

  cut(): void {
    this.cuts += 1;
  }

  readonly streams = {
    pass: (): StreamsPass => {
      const count = this.#count;
      let [at, left] = [0, count];
      return {
        count,
        again: () => void (left = count),
        goOn: (mayGoOn) => {
          for (; left > 0; left -= 1) {
            if (!mayGoOn()) return false;
            this.judged.push((at % count) + 1);
            this.onJudged((at % count) + 1);
            at += 1;
          }
          return true;
        },
      };
    },
    hold: () => {
      this.isHeld = true;
    },
    release: () => {
      this.isHeld = false;
    },
  };
}

/** Time for so many judgements. */
function timeFor(judgements: number): MayGoOn {
  return () => judgements-- > 0;
}
const always = (): boolean => true;

function open(...carriers: readonly Carrier[]): OpenConnections {
  const connections = new OpenConnections({ max: 99, maxPerHost: 99 });
  for (const carrier of carriers) connections.add(carrier, 0);
  return connections;
}

describe('OpenConnections, of streams within connections', () => {
  test('reconsiderAll() judges all of them at once where there is time, and holds nobody', () => {
    const [many, few] = [new Carrier(40), new Carrier(2)];
    many.streams.hold = () => expect.unreachable();
    expect(open(many, few).reconsiderAll(always)).toBe(true);
    expect([many.judged.length, few.judged]).toEqual([40, [1, 2]]);
  });

  test('reconsiderAll() makes stand still what it has no time for, until reconsiderRest() has judged all of it', () => {
    const [many, idle] = [new Carrier(40), new Carrier(0)];
    const connections = open(many, idle);
    expect(connections.reconsiderAll(timeFor(3))).toBe(false);
    expect([many.isHeld, many.judged.length < 40]).toEqual([true, true]);
    expect(connections.reconsiderRest(timeFor(10))).toBe(false);
    expect(many.isHeld).toBe(true);
    expect(connections.reconsiderRest(always)).toBe(true);
    expect([many.isHeld, idle.isHeld]).toEqual([false, false]);
    expect(many.judged).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });

  test('with no time at all, nothing is judged and nothing passes', () => {
    const many = new Carrier(2);
    expect(open(many).reconsiderAll(() => false)).toBe(false);
    expect([many.judged, many.isHeld]).toEqual([[], true]);
  });

  test('who carries little does not wait for who carries much', () => {
    const [many, few] = [new Carrier(4096), new Carrier(2)];
    const connections = open(many, few);
    connections.reconsiderAll(() => false);
    connections.reconsiderRest(timeFor(40));
    expect([many.isHeld, few.isHeld, few.judged]).toEqual([true, false, [1, 2]]);
  });

  test('whatever is judged while everything changes again is judged anew, and stands still until then', () => {
    const many = new Carrier(40);
    const connections = open(many);
    connections.reconsiderAll(timeFor(30));
    const before = many.judged.splice(0).length;
    expect(connections.reconsiderAll(timeFor(30))).toBe(false);
    // Who has not had its turn comes before those who have.
    expect([many.isHeld, many.judged[0]]).toEqual([true, before + 1]);
    connections.reconsiderRest(always);
    expect([many.isHeld, many.judged.toSorted((a, b) => a - b)]).toEqual([
      false,
      Array.from({ length: 40 }, (_, i) => i + 1),
    ]);
  });

  test('what is no change of the policy makes nothing stand still, and keeps nobody from being judged', () => {
    const many = new Carrier(4096);
    const connections = open(many);
    expect(connections.reconsiderAll(() => false, 'circumstances')).toBe(true);
    expect([many.isHeld, many.judged]).toEqual([false, []]);
    connections.reconsiderAll(() => false, 'policy');
    let turns = 0;
    for (; many.isHeld && turns < 9; turns += 1) connections.reconsiderAll(timeFor(1000), 'circumstances');
    expect([turns, many.judged.length]).toEqual([5, 4096]);
  });

  test('a connection that policies change too fast for comes to an end, and nobody else does', () => {
    const [many, few] = [new Carrier(4096), new Carrier(2)];
    const connections = open(many, few);
    let faults = 0;
    for (let change = 0; change < 50; change += 1)
      try {
        connections.reconsiderAll(timeFor(3000));
        expect(many.isHeld || many.cuts > 0).toBe(true);
      } catch (fault) {
        faults += 1;
        expect(fault).toMatchObject({ code: 'unavailable', reason: 'judgement_endless' });
      }
    expect([many.cuts, few.cuts, few.isHeld, faults, connections.size]).toEqual([1, 0, false, 1, 1]);
    expect(many.judged.length).toBeLessThan((MAX_PASSES + 2) * 4096);
    expect(new Set(many.judged).size).toBe(4096);
  });

  test('changes in quick succession end nobody, however few streams there are or are left', () => {
    const [none, few] = [new Carrier(0), new Carrier(9)];
    const connections = open(none, few);
    for (let change = 0; change < 50; change += 1) connections.reconsiderAll(() => false);
    connections.reconsiderRest(always);
    expect([none.cuts, few.cuts, none.isHeld, few.isHeld]).toEqual([0, 0, false, false]);
  });

  test('who cannot be judged is cut, and the others have their turn', () => {
    const [bad, unholdable, good] = [new Carrier(40), new Carrier(40), new Carrier(40)];
    bad.onJudged = (stream) => {
      if (stream === 20) throw new Error('a fault');
    };
    unholdable.streams.hold = () => {
      throw new Error('cannot be held');
    };
    bad.cut = () => {
      bad.cuts += 1;
      throw new Error('another fault');
    };
    const connections = open(bad, unholdable, good);
    expect(() => connections.reconsiderAll(() => false)).toThrow('cannot be held');
    expect([unholdable.cuts, bad.isHeld, good.isHeld]).toEqual([1, true, true]);
    expect(() => connections.reconsiderRest(always)).toThrow('a fault');
    expect([bad.cuts, good.isHeld, good.judged.length, connections.size]).toEqual([1, false, 40, 1]);
    expect(connections.reconsiderRest(always)).toBe(true);
  });

  test('who has ended is judged no more', () => {
    const many = new Carrier(40);
    const connections = new OpenConnections({ max: 99, maxPerHost: 99 });
    const leave = connections.add(many, 0);
    connections.reconsiderAll(() => false);
    leave?.();
    expect([connections.reconsiderRest(always), many.judged]).toEqual([true, []]);
  });

  test('reconsiderNext() goes on within a connection, and holds nobody', () => {
    const [many, few] = [new Carrier(40), new Carrier(2)];
    many.streams.hold = () => expect.unreachable();
    const connections = open(many, few);
    for (let call = 0; call < 5; call += 1) connections.reconsiderNext(timeFor(13));
    expect(many.judged.slice(0, 40)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(few.judged).toEqual([1, 2]);
  });

  test('reconsiderNext() cuts whose streams cannot be judged, and the others have their turn', () => {
    const [bad, good] = [new Carrier(3), new Carrier(3)];
    bad.onJudged = () => {
      throw new Error('a fault');
    };
    const connections = open(bad, good);
    expect(() => connections.reconsiderNext(always)).toThrow('a fault');
    expect([bad.cuts, good.judged, connections.size]).toEqual([1, [1, 2, 3], 1]);
  });
});
