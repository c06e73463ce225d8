import { expect, test } from 'bun:test';
import { Turns } from './turns.ts';

test('Turns.take() lets a few work at once and the others in their order, whatever becomes of those before', async () => {
  const turns = new Turns(2);
  const begun: number[] = [];
  const ends = Array.from({ length: 5 }, () => Promise.withResolvers<number>());
  const all = ends.map(async ({ promise }, index) => {
    return await turns.take(async () => {
      begun.push(index);
      return await promise;
    });
  });
  const settle = async (): Promise<void> => await Bun.sleep(0);
  await settle();
  expect(begun).toEqual([0, 1]);
  ends[1]?.reject(new Error('failed'));
  expect(await all[1]?.catch((error: unknown) => String(error))).toContain('failed');
  await settle();
  expect(begun).toEqual([0, 1, 2]);
  for (const { resolve } of ends) resolve(1);
  expect(await Promise.all([all[0], all[2], all[3], all[4]])).toEqual([1, 1, 1, 1]);
  expect(begun).toEqual([0, 1, 2, 3, 4]);
});
