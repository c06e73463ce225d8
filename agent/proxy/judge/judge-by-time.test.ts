import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { createLog } from '../../../shared/runtime/log.ts';
import { judgeByTime, TIMED_JUDGEMENT } from './judge-by-time.ts';
import { OpenConnections } from '../connections/connections.ts';

class Rig {
  readonly clock = new FakeClock();
  readonly authorizer = { changesWithTime: true };
  readonly connections = new OpenConnections({ max: 10_000, maxPerHost: 10_000 });
  readonly lines: string[] = [];
  judged = 0;
  readonly stop: () => void;

  constructor(connections: number, costMs = 0) {
    for (let i = 0; i < connections; i++)
      this.connections.add(
        {
          party: { name: `p${i % 100}` },
          reconsider: () => {
            this.judged += 1;
            // A judgement takes time by the clock alone.
            if (costMs > 0) this.clock.advance(costMs);
            return undefined;
          },
          cut: () => undefined,
        },
        0,
      );
    const log = createLog({ level: 'error', nowMs: () => 0, write: (line) => this.lines.push(line) });
    const { connections: open, authorizer, clock } = this;
    this.stop = judgeByTime({ connections: open, authorizer, clock, log });
  }
}

describe('judgeByTime()', () => {
  test('judges every connection in each second while the policy may change with time', () => {
    const rig = new Rig(50);
    rig.clock.advance(TIMED_JUDGEMENT.everyMs - 1);
    expect(rig.judged).toBe(0);
    for (let second = 1; second <= 3; second++) {
      rig.clock.advance(TIMED_JUDGEMENT.everyMs);
      expect(rig.judged).toBe(50 * second);
    }
    rig.authorizer.changesWithTime = false;
    rig.clock.advance(10 * TIMED_JUDGEMENT.everyMs);
    expect(rig.judged).toBe(150);
    rig.authorizer.changesWithTime = true;
    rig.clock.advance(TIMED_JUDGEMENT.everyMs);
    expect(rig.judged).toBe(200);
    rig.stop();
    rig.clock.advance(10 * TIMED_JUDGEMENT.everyMs);
    expect(rig.judged).toBe(200);
    expect(rig.clock.pending).toBe(0);
  });

  test('takes a tenth of the time at most, and comes to each connection all the same', () => {
    const rig = new Rig(100, 1);
    rig.clock.advance(TIMED_JUDGEMENT.everyMs);
    expect(rig.judged).toBe(TIMED_JUDGEMENT.pieceMs);
    const before = rig.judged;
    rig.clock.advance(10 * TIMED_JUDGEMENT.turnMs);
    expect(rig.judged - before).toBeGreaterThanOrEqual(9 * TIMED_JUDGEMENT.pieceMs);
    expect(rig.judged - before).toBeLessThanOrEqual(10 * TIMED_JUDGEMENT.pieceMs);
    rig.clock.advance(30 * TIMED_JUDGEMENT.turnMs);
    expect(rig.judged).toBeGreaterThanOrEqual(100);
  });

  test('pauses nine times as long as a piece took, where one connection takes longer than a piece', () => {
    const rig = new Rig(2, 200);
    rig.clock.advance(TIMED_JUDGEMENT.everyMs);
    expect(rig.judged).toBe(1);
    // 200 ms of judgement, and 1800 of pause.
    rig.clock.advance(1999);
    expect(rig.judged).toBe(1);
    rig.clock.advance(1);
    expect(rig.judged).toBe(2);
  });

  test('goes on after a fault, which is told', () => {
    const rig = new Rig(0);
    let isCut = false;
    rig.connections.add(
      {
        party: { name: 'p' },
        reconsider: () => {
          throw new Error('a fault');
        },
        cut: () => void (isCut = true),
      },
      0,
    );
    rig.clock.advance(TIMED_JUDGEMENT.everyMs);
    expect([isCut, rig.lines.length]).toEqual([true, 1]);
    rig.clock.advance(TIMED_JUDGEMENT.everyMs);
    expect(rig.lines.length).toBe(1);
  });
});
