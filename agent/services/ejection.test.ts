import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { Ejection, FAILURES_TO_EJECT, FIRST_EJECTION_MS, MAX_EJECTION_MS } from './ejection.ts';

const ACCIDENT = { isGrave: false };

function failTimes(ejection: Ejection, times: number): readonly boolean[] {
  return Array.from({ length: times }, () => ejection.failed('refused', ACCIDENT));
}

test('Ejection passes a member over after failures in a row, and not before', () => {
  const ejection = new Ejection(new FakeClock(), () => 0);
  expect(failTimes(ejection, FAILURES_TO_EJECT - 1)).not.toContain(true);
  ejection.succeeded();
  expect(failTimes(ejection, FAILURES_TO_EJECT - 1)).not.toContain(true);
  expect(ejection.remainingMs).toBe(0);
  expect(ejection.lastFailure).toBe('refused');
  expect(ejection.failed('refused', ACCIDENT)).toBe(true);
  expect(ejection.remainingMs).toBe(FIRST_EJECTION_MS);
});

test('Ejection passes a member over at once where it is no accident', () => {
  const ejection = new Ejection(new FakeClock(), () => 0);
  expect(ejection.failed('somebody else', { isGrave: true })).toBe(true);
  expect(ejection.remainingMs).toBe(FIRST_EJECTION_MS);
});

test('Ejection grows from time to time up to its end, and one failure is enough for one that came back', () => {
  const clock = new FakeClock();
  const ejection = new Ejection(clock, () => 0);
  failTimes(ejection, FAILURES_TO_EJECT);
  const lasted: number[] = [];
  for (let i = 0; i < 10; i += 1) {
    lasted.push(ejection.remainingMs);
    clock.advance(ejection.remainingMs);
    expect(ejection.remainingMs).toBe(0);
    expect(ejection.failed('again', ACCIDENT)).toBe(true);
  }
  expect(lasted.slice(0, 4)).toEqual([1, 2, 4, 8].map((times) => times * FIRST_EJECTION_MS));
  expect(lasted.at(-1)).toBe(MAX_EJECTION_MS);
});

test('Ejection lasts a little longer by chance, and never more than a fifth', () => {
  const ejection = new Ejection(new FakeClock(), () => 0.999);
  ejection.failed('x', { isGrave: true });
  expect(ejection.remainingMs).toBeGreaterThan(FIRST_EJECTION_MS);
  expect(ejection.remainingMs).toBeLessThanOrEqual(1.2 * FIRST_EJECTION_MS);
});

test('Ejection is not ended by a success, nor lengthened by a failure, of what began before', () => {
  const clock = new FakeClock();
  const ejection = new Ejection(clock, () => 0);
  failTimes(ejection, FAILURES_TO_EJECT);
  clock.advance(1000);
  ejection.succeeded();
  expect(ejection.failed('late', ACCIDENT)).toBe(false);
  expect(ejection.remainingMs).toBe(FIRST_EJECTION_MS - 1000);
});

test('Ejection forgets everything once the member has been well for as long as it was away', () => {
  const clock = new FakeClock();
  const ejection = new Ejection(clock, () => 0);
  failTimes(ejection, FAILURES_TO_EJECT);
  clock.advance(FIRST_EJECTION_MS + 1);
  ejection.succeeded();
  expect(ejection.lastFailure).toBeUndefined();
  expect(ejection.failed('soon', ACCIDENT)).toBe(true);
  clock.advance(2 * FIRST_EJECTION_MS);
  clock.advance(2 * FIRST_EJECTION_MS + 1);
  ejection.succeeded();
  expect(failTimes(ejection, FAILURES_TO_EJECT - 1)).not.toContain(true);
  expect(ejection.failed('third', ACCIDENT)).toBe(true);
  expect(ejection.remainingMs).toBe(FIRST_EJECTION_MS);
});

test('Ejection keeps no more of a reason than a report may carry', () => {
  const ejection = new Ejection(new FakeClock(), () => 0);
  ejection.failed('x'.repeat(1_000_000), { isGrave: false });
  expect(ejection.lastFailure).toBe('x'.repeat(1024));
});
