import { describe, expect, test } from 'bun:test';
import { createLog } from '../../../shared/runtime/log.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { OpenConnections } from '../connections/connections.ts';
import { JudgeAnew, PIECE_MS } from './judge-anew.ts';

/** Work takes time by the monotonic clock, and timers do not fall due by that; they take a millisecond, as real ones do. */
class WorkClock extends FakeClock {
  workedMs = 0;

  override monotonicMs(): number {
    return super.monotonicMs() + this.workedMs;
  }

  override schedule(delayMs: number, callback: () => void): () => void {
    return super.schedule(Math.max(1, delayMs), callback);
  }
}

/** A connection with so many streams, each of which takes a millisecond to be judged. */
function open(streams: number) {
  const clock = new WorkClock();
  const lines: string[] = [];
  const state = { judged: 0, isHeld: false, fault: undefined as Error | undefined };
  const connections = new OpenConnections({ max: 9, maxPerHost: 9 });
  const connection = {
    party: { name: 'alice' },
    reconsider: () => {
      if (state.fault !== undefined) throw state.fault;
      return undefined;
    },
    cut: () => undefined,
    streams: {
      pass: () => {
        let left = streams;
        return {
          count: streams,
          again: () => void (left = streams),
          goOn: (mayGoOn: () => boolean) => {
            for (; left > 0; left -= 1) {
              if (!mayGoOn()) return false;
              state.judged += 1;
              clock.workedMs += 1;
            }
            return true;
          },
        };
      },
      hold: () => (state.isHeld = true),
      release: () => (state.isHeld = false),
    },
  };
  connections.add(connection, 0);
  const log = createLog({ level: 'error', nowMs: () => 0, write: (line) => lines.push(line) });
  return { clock, state, lines, anew: new JudgeAnew({ connections, clock, log }) };
}

describe('JudgeAnew', () => {
  test('judges what takes no time before anything else happens', () => {
    const { clock, state, anew } = open(PIECE_MS);
    anew.begin('policy');
    expect([state.judged, state.isHeld, clock.pending]).toEqual([PIECE_MS, false, 0]);
  });

  test('judges the rest in pieces, between which others have their turn, and nothing passes meanwhile', () => {
    const { clock, state, anew } = open(23);
    anew.begin('policy');
    for (let piece = 1; piece <= 4; piece += 1) {
      expect([state.judged, state.isHeld, clock.pending]).toEqual([piece * PIECE_MS, true, 1]);
      clock.advance(1);
    }
    expect([state.judged, state.isHeld, clock.pending]).toEqual([23, false, 0]);
  });

  test('begins anew with another change, with one turn at a time', () => {
    const { clock, state, anew } = open(23);
    anew.begin('policy');
    anew.begin('policy');
    expect(clock.pending).toBe(1);
    for (let turn = 0; turn < 9; turn += 1) clock.advance(1);
    expect([state.judged, state.isHeld, clock.pending]).toEqual([PIECE_MS + 23, false, 0]);
  });

  test('leaves streams alone whose permits have not changed', () => {
    const { clock, state, anew } = open(23);
    anew.begin('circumstances');
    expect([state.judged, state.isHeld, clock.pending]).toEqual([0, false, 0]);
  });

  test('stop() ends it', () => {
    const { clock, state, anew } = open(23);
    anew.begin('policy');
    anew.stop();
    clock.advance(1000);
    expect([state.judged, clock.pending]).toEqual([PIECE_MS, 0]);
  });

  test('logs a fault of ours, and keeps it from whoever told of the change', () => {
    const { clock, state, lines, anew } = open(1);
    state.fault = new Error('a fault');
    anew.begin('policy');
    clock.advance(1);
    expect([lines.length, clock.pending]).toEqual([1, 0]);
    expect(lines[0]).toContain('connections_not_judged');
  });
});
