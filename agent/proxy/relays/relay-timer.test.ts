import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { RelayTimer, LINGER_MS, PHASE_MS, type TimedPhase } from './relay-timer.ts';

const PHASES = Object.keys(PHASE_MS) as TimedPhase[];

describe('RelayTimer', () => {
  test('watch() counts from the beginning of a phase, not from what was read last', () => {
    for (const phase of PHASES) {
      const clock = new FakeClock();
      const timer = new RelayTimer(clock);
      let over = 0;
      for (let elapsedMs = 0; elapsedMs < PHASE_MS[phase]; elapsedMs += 1000) {
        timer.watch(phase, 1, () => (over += 1));
        expect(over).toBe(0);
        clock.advance(1000);
      }
      expect([over, clock.pending]).toEqual([1, 0]);
    }
  });

  test('watch() stops when the phase has ended', () => {
    const clock = new FakeClock();
    const timer = new RelayTimer(clock);
    timer.watch('head', 0, () => expect.unreachable());
    timer.watch(undefined, 1, () => expect.unreachable());
    expect(clock.pending).toBe(0);
  });

  test('watch() begins anew with the next request and with another phase', () => {
    const clock = new FakeClock();
    const timer = new RelayTimer(clock);
    timer.watch('idle', 0, () => expect.unreachable());
    clock.advance(PHASE_MS.idle - 1);
    timer.watch('idle', 1, () => expect.unreachable());
    clock.advance(PHASE_MS.idle - 1);
    let over = 0;
    timer.watch('head', 1, () => (over += 1));
    clock.advance(PHASE_MS.head - 1);
    expect(over).toBe(0);
    clock.advance(1);
    expect([over, clock.pending]).toEqual([1, 0]);
  });

  test('linger() takes the place of whatever ran, and stop() leaves nothing', () => {
    const clock = new FakeClock();
    const timer = new RelayTimer(clock);
    let lingered = 0;
    timer.watch('head', 0, () => expect.unreachable());
    timer.linger(() => expect.unreachable());
    timer.linger(() => (lingered += 1));
    expect(clock.pending).toBe(1);
    clock.advance(LINGER_MS);
    expect(lingered).toBe(1);
    timer.linger(() => expect.unreachable());
    timer.stop();
    expect(clock.pending).toBe(0);
  });
});
