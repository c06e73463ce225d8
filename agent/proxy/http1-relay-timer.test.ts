import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { HEAD_MS, Http1RelayTimer, LINGER_MS } from './http1-relay-timer.ts';

describe('Http1RelayTimer', () => {
  test('watchHead() counts from the first byte of a head, not from its latest', () => {
    const clock = new FakeClock();
    const timer = new Http1RelayTimer(clock);
    let slow = 0;
    for (let elapsedMs = 0; elapsedMs < HEAD_MS; elapsedMs += 1000) {
      timer.watchHead(true, () => (slow += 1));
      expect(slow).toBe(0);
      clock.advance(1000);
    }
    expect([slow, clock.pending]).toEqual([1, 0]);
  });

  test('watchHead() stops when the head is complete', () => {
    const clock = new FakeClock();
    const timer = new Http1RelayTimer(clock);
    timer.watchHead(true, () => expect.unreachable());
    timer.watchHead(false, () => expect.unreachable());
    expect(clock.pending).toBe(0);
  });

  test('linger() takes the place of whatever ran, and stop() leaves nothing', () => {
    const clock = new FakeClock();
    const timer = new Http1RelayTimer(clock);
    let lingered = 0;
    timer.watchHead(true, () => expect.unreachable());
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
