import { expect, test } from 'bun:test';
import { DescriptorReserve } from './descriptor-reserve.ts';

test('DescriptorReserve keeps a part of the descriptors back, counts whom it refuses, and says so', () => {
  const reserve = new DescriptorReserve(100);
  let told = 0;
  reserve.watch(() => (told += 1));
  expect([reserve.reserved, reserve.admits(74), reserve.admits(75), reserve.admits(99)]).toEqual([
    25,
    true,
    false,
    false,
  ]);
  expect([reserve.refused, told]).toEqual([2, 2]);
});

test('DescriptorReserve keeps no more back than is needed, and nothing where there is no limit', () => {
  expect(new DescriptorReserve(65_536).reserved).toBe(64);
  expect(new DescriptorReserve(Infinity).admits(1_000_000)).toBe(true);
});
