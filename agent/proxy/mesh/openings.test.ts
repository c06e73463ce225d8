import { describe, expect, test } from 'bun:test';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { Openings } from './openings.ts';
import { failed } from './outcome.ts';

const clock = new FakeClock();
const callerOf = (notBeforeMs: number, notAfterMs: number) => ({
  spiffeId: parseSpiffeId('spiffe://example.org/web'),
  notBeforeMs,
  notAfterMs,
});
const VALID = callerOf(clock.nowMs(), clock.nowMs() + 1000);

describe('Openings', () => {
  test('admits so many at a time, whatever becomes of them', async () => {
    const openings = new Openings(1, clock);
    const { promise, reject } = Promise.withResolvers<never>();
    const first = openings.admit(VALID, async () => await promise);
    expect(await openings.admit(VALID, () => expect.unreachable())).toMatchObject({ reason: 'overloaded' });
    reject(new Error('a fault'));
    expect(await first.catch((fault: unknown) => String(fault))).toContain('a fault');
    const outcome = failed('target_unreachable', 'nobody listens');
    expect(await openings.admit(VALID, async () => await Promise.resolve(outcome))).toBe(outcome);
  });

  test('admits nobody whose certificate is over, and nobody once it has stopped', async () => {
    const openings = new Openings(9, clock);
    const over = callerOf(clock.nowMs() - 1000, clock.nowMs() - 1);
    expect(await openings.admit(over, () => expect.unreachable())).toMatchObject({
      reason: 'caller_untrusted',
    });
    openings.stop();
    expect(await openings.admit(VALID, () => expect.unreachable())).toMatchObject({ reason: 'overloaded' });
  });
});
