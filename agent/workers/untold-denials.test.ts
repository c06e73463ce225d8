import { expect, test } from 'bun:test';
import { testAccessRecord } from '../../tests/kit/audit-batches.ts';
import { UntoldDenials } from './untold-denials.ts';

test('UntoldDenials gives out each denial once, the newest thousand', () => {
  const denials = new UntoldDenials();
  for (let pid = 0; pid < 1005; pid++)
    denials.note({ record: testAccessRecord(), isTold: false, uid: 1, pid });
  const taken = denials.take();
  expect(taken).toHaveLength(1000);
  expect(taken[0]?.pid).toBe(5);
  expect(denials.take()).toEqual([]);
});
