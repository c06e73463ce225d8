import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { Gate } from './dialer-gate.ts';

describe('Gate', () => {
  test('tryEnter() leaves half of the places to those who need them, and the only one', () => {
    const insideOf = (max: number): number => {
      const gate = new Gate(max, new FakeClock());
      let inside = 0;
      while (gate.tryEnter()) inside += 1;
      return inside;
    };
    expect([1, 2, 3, 64].map(insideOf)).toEqual([0, 1, 1, 32]);
  });

  test('tryEnter() never goes before those who wait, and its place is theirs when it leaves', async () => {
    const gate = new Gate(2, new FakeClock());
    expect(gate.tryEnter()).toBe(true);
    expect(await gate.enter('web', 1000)).toBe(true);
    const waiting = gate.enter('reports', 1000);
    expect(gate.tryEnter()).toBe(false);
    gate.leave();
    expect(await waiting).toBe(true);
    expect(gate.tryEnter()).toBe(false);
    gate.leave();
    gate.leave();
    expect(gate.isUnused).toBe(true);
  });
});
