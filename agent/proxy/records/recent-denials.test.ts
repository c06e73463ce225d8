import { describe, expect, test } from 'bun:test';
import { testAccessRecord } from '../../../tests/kit/audit-batches.ts';
import { RecentDenials } from './recent-denials.ts';

function fill(denials: RecentDenials, uid: number | null, count: number, firstPid = 0): void {
  for (let pid = firstPid; pid < firstPid + count; pid++)
    denials.note({ record: testAccessRecord(), isTold: false, uid, pid });
}

describe('RecentDenials', () => {
  test('shows the newest thousand, newest first, to a user his own', () => {
    const denials = new RecentDenials();
    fill(denials, 1, 1005);
    const shown = denials.list({ uid: 1, limit: 2000 });
    expect([shown.length, shown[0]?.pid, shown.at(-1)?.pid]).toEqual([1000, 1004, 5]);
    expect(denials.list({ uid: 2, limit: 10 })).toEqual([]);
    expect(denials.list({ limit: 3 }).map(({ pid }) => pid)).toEqual([1004, 1003, 1002]);
  });

  test('keeps what others have when one has thousands, also where nobody knows whose they are', () => {
    const denials = new RecentDenials();
    fill(denials, 2, 10);
    fill(denials, 3, 1);
    fill(denials, null, 5000);
    expect(denials.list({ uid: 2, limit: 100 })).toHaveLength(10);
    fill(denials, 4, 5000);
    for (const [uid, count] of [
      [2, 10],
      [3, 1],
    ] as const)
      expect(denials.list({ uid, limit: 100 })).toHaveLength(count);
    const all = denials.list({ limit: 2000 });
    expect(all).toHaveLength(1000);
    const ofNobody = all.filter(({ uid }) => uid === null);
    const ofFour = denials.list({ uid: 4, limit: 2000 });
    expect(Math.abs(ofNobody.length - ofFour.length)).toBeLessThanOrEqual(1);
    expect(ofFour[0]?.pid).toBe(4999);
  });

  test('shows the newest first, whichever worker told of its own first', () => {
    const denials = new RecentDenials();
    const note = (second: number): void =>
      denials.note({
        record: testAccessRecord({ ts: `2026-01-01T00:00:0${second}.000Z` }),
        isTold: false,
        uid: 1,
        pid: second,
      });
    for (const second of [2, 5, 1, 3, 4]) note(second);
    expect(denials.list({ limit: 10 }).map(({ pid }) => pid)).toEqual([5, 4, 3, 2, 1]);
    expect(denials.list({ uid: 1, limit: 1 }).map(({ pid }) => pid)).toEqual([5]);
  });

  test('keeps new ones where the clock was set back', () => {
    const denials = new RecentDenials();
    fill(denials, 1, 1000);
    denials.note({
      record: testAccessRecord({ ts: '2026-01-01T00:00:00.000Z' }),
      isTold: false,
      uid: 1,
      pid: 1000,
    });
    expect(denials.list({ limit: 2000 }).at(-1)?.pid).toBe(1000);
  });

  test('gives out each denial once, oldest first', () => {
    const denials = new RecentDenials();
    fill(denials, 1, 1005);
    const taken = denials.take();
    expect([taken.length, taken[0]?.pid]).toEqual([1000, 5]);
    expect(denials.take()).toEqual([]);
    fill(denials, 1, 3);
    fill(denials, 2, 1000);
    expect(denials.list({ uid: 1, limit: 10 })).toHaveLength(3);
  });
});
