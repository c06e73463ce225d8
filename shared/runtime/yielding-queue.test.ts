import { describe, expect, test } from 'bun:test';
import { YieldingQueue } from './yielding-queue.ts';

function queueOf(...items: readonly string[]): YieldingQueue<string> {
  const queue = new YieldingQueue<string>();
  for (const item of items) queue.add(item.slice(0, 1), item);
  return queue;
}

describe('YieldingQueue', () => {
  test('findOldestOfLargest() names the oldest of the source with the most, not the oldest of all', () => {
    const queue = queueOf('a1', 'b1', 'b2', 'c1');
    expect(queue.findOldestOfLargest()).toBe('b1');
    queue.delete('b', 'b1');
    queue.delete('b', 'b1');
    expect([queue.findOldestOfLargest(), queue.size, queue.countOf('b')]).toEqual(['a1', 3, 1]);
  });

  test('findOldestOf() names the oldest of a source that suits', () => {
    const queue = queueOf('a1', 'b1', 'a2');
    expect(queue.findOldestOf('a')).toBe('a1');
    expect(queue.findOldestOf('a', (item) => item !== 'a1')).toBe('a2');
    expect(queue.findOldestOf('z')).toBeUndefined();
  });

  test('is empty when all have gone', () => {
    const queue = queueOf('a1');
    queue.add('a', 'a1');
    queue.delete('a', 'a1');
    queue.delete('z', 'z1');
    expect([queue.findOldestOfLargest(), queue.size]).toEqual([undefined, 0]);
  });
});
