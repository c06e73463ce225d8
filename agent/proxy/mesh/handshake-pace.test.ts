import { expect, test } from 'bun:test';
import { HandshakePace } from './handshake-pace.ts';

const nextTurn = async (): Promise<void> => await new Promise((resolve) => void setImmediate(resolve));

/** Asks `count` times, and keeps the order in which they begin. */
function ask(
  pace: HandshakePace,
  count: number,
): { readonly order: number[]; readonly cancels: (() => void)[] } {
  const order: number[] = [];
  return { order, cancels: Array.from({ length: count }, (_, i) => pace.run(() => void order.push(i))) };
}

test('one begins at once, the others in their order, each in a turn of its own', async () => {
  const { order } = ask(new HandshakePace(), 3);
  expect(order).toEqual([0]);
  await nextTurn();
  expect(order).toEqual([0, 1]);
  await nextTurn();
  expect(order).toEqual([0, 1, 2]);
});

test('one that was given up does not begin, and holds nobody up', async () => {
  const { order, cancels } = ask(new HandshakePace(), 4);
  for (const i of [0, 1, 2]) cancels[i]?.();
  await nextTurn();
  expect(order).toEqual([0, 3]);
});

test('whoever asks while another begins is behind those that wait', async () => {
  const pace = new HandshakePace();
  const order: string[] = [];
  pace.run(() => undefined);
  pace.run(() => {
    order.push('first');
    pace.run(() => void order.push('late'));
  });
  pace.run(() => void order.push('second'));
  for (let turn = 0; turn < 4; turn += 1) await nextTurn();
  expect(order).toEqual(['first', 'second', 'late']);
});

test('after turns without anything to do one begins at once again', async () => {
  const pace = new HandshakePace();
  ask(pace, 2);
  for (let turn = 0; turn < 3; turn += 1) await nextTurn();
  expect(ask(pace, 1).order).toEqual([0]);
});
