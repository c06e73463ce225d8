import { expect, test } from 'bun:test';
import { HANDSHAKES_AT_ONCE as AT_ONCE, HandshakePace } from './handshake-pace.ts';

async function passTurns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
}

/** Asks `count` times, and keeps the order in which they begin. */
function ask(
  pace: HandshakePace,
  count: number,
): { readonly order: number[]; readonly cancels: (() => void)[] } {
  const order: number[] = [];
  return { order, cancels: Array.from({ length: count }, (_, i) => pace.run(() => void order.push(i))) };
}

test('five begin at once, the next five in their order when as many turns have passed', async () => {
  const { order } = ask(new HandshakePace(), 12);
  expect(order).toEqual([0, 1, 2, 3, 4]);
  await passTurns(AT_ONCE - 1);
  expect(order).toHaveLength(5);
  await passTurns(1);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  await passTurns(AT_ONCE - 1);
  expect(order).toHaveLength(10);
  await passTurns(1);
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
});

test('where nobody waits one begins for each turn that has passed', async () => {
  const pace = new HandshakePace();
  ask(pace, 4);
  await passTurns(2);
  const { order } = ask(pace, 4);
  expect(order).toEqual([0, 1, 2]);
  await passTurns(AT_ONCE);
  expect(order).toEqual([0, 1, 2, 3]);
});

test('one that was given up does not begin, and holds nobody up', async () => {
  const { order, cancels } = ask(new HandshakePace(), 12);
  for (const i of [0, 5, 6]) cancels[i]?.();
  await passTurns(AT_ONCE);
  expect(order).toEqual([0, 1, 2, 3, 4, 7, 8, 9, 10, 11]);
});

test('whoever asks while another begins is behind those that wait', async () => {
  const pace = new HandshakePace();
  ask(pace, AT_ONCE);
  const order: string[] = [];
  pace.run(() => {
    order.push('first');
    pace.run(() => void order.push('late'));
  });
  pace.run(() => void order.push('second'));
  await passTurns(AT_ONCE);
  expect(order).toEqual(['first', 'second', 'late']);
});

test('after turns without anything to do five begin at once again', async () => {
  const pace = new HandshakePace();
  ask(pace, AT_ONCE + 1);
  await passTurns(AT_ONCE + 1);
  expect(ask(pace, AT_ONCE).order).toEqual([0, 1, 2, 3, 4]);
});
