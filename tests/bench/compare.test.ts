import { describe, expect, test } from 'bun:test';
import { compare, ownRow } from './compare.ts';
import type { Measure } from './measure.ts';

const rate: Measure = { name: 'rate', unit: '1/s', better: 'more', floor: 1.5 };
const cost: Measure = { name: 'cost', unit: 'us', better: 'less', floor: 0.5 };

/** The second round is a disturbed one: everything is half as fast. */
async function measured(ours: { readonly rate: number; readonly cost: number }) {
  const order: string[] = [];
  const speeds = [7, 1, 0.5, 1];
  const rows = await compare({
    contenders: [{ name: 'haproxy' }, { name: 'picket' }],
    reference: 'haproxy',
    ours: 'picket',
    measures: [rate, cost],
    rounds: 3,
    sample: async ({ name }) => {
      const speed = speeds[Math.floor(order.length / 2)] ?? Number.NaN;
      order.push(name);
      const of = name === 'picket' ? ours : { rate: 100, cost: 10 };
      return { rate: of.rate * speed, cost: of.cost / speed };
    },
  });
  return { rows, order };
}

describe('compare()', () => {
  test('takes the contenders in turns, and leaves the first round out', async () => {
    const { rows, order } = await measured({ rate: 200, cost: 4 });
    expect(order).toEqual(Array.from({ length: 4 }, () => ['haproxy', 'picket']).flat());
    expect(rows[0]?.results).toEqual([
      { contender: 'haproxy', median: 100, ratio: 1 },
      { contender: 'picket', median: 200, ratio: 2 },
    ]);
  });

  test('a floor is a ratio to the reference, from below or from above', async () => {
    const good = await measured({ rate: 150, cost: 5 });
    expect(good.rows.map(({ isMet }) => isMet)).toEqual([true, true]);
    const bad = await measured({ rate: 149, cost: 5.1 });
    expect(bad.rows.map(({ isMet }) => isMet)).toEqual([false, false]);
  });
});

test('ownRow() holds the median to an absolute bound', () => {
  const bounded: Measure = { name: 'decision', unit: 'us', better: 'less', bound: 20 };
  expect(ownRow(bounded, [30, 10, 20])).toMatchObject({ results: [{ median: 20 }], isMet: true });
  expect(ownRow(bounded, [30, 10, 21])).toMatchObject({ isMet: false });
  expect(ownRow({ name: 'free', unit: 'us', better: 'less' }, [1]).isMet).toBeUndefined();
});
