import { afterEach, beforeEach, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { closeDescriptor } from '../native/dial.ts';
import { receiveDescriptors } from '../native/descriptor-passing.ts';
import { DescriptorSender } from './descriptor-sender.ts';

const AGAIN_MS = 20;
let clock: FakeClock;
let failures: unknown[];
let sent: string[];
let sender: DescriptorSender;

beforeEach(() => {
  [clock, failures, sent] = [new FakeClock(), [], []];
  sender = new DescriptorSender(clock, (error) => failures.push(error));
});
afterEach(() => sender.close());

const send = (key: string, fd = 0): void =>
  sender.send({ key, descriptors: [fd], onSent: () => sent.push(key) });
const take = (): void => closeDescriptor(receiveDescriptors(sender.far)[0] ?? -1);

/** Sends until the worker would have to take something first; the last one waits. */
function fill(): number {
  let count = 0;
  while (sent.length === count) send(String(count++));
  return count - 1;
}

test('DescriptorSender sends in order, and waits where the worker takes nothing', () => {
  const fitting = fill();
  send('next');
  expect(sent).toHaveLength(fitting);
  clock.advance(AGAIN_MS);
  expect(sent).toHaveLength(fitting);
  for (let taken = 0; taken < fitting; taken++) take();
  clock.advance(AGAIN_MS);
  expect(sent.slice(fitting)).toEqual([String(fitting), 'next']);
  expect(clock.pending).toBe(0);
  sender.started();
});

test('DescriptorSender takes back what was not sent, and nothing else', () => {
  const fitting = fill();
  send('gone');
  expect(['gone', 'gone', '0'].map((key) => sender.takeBack(key))).toEqual([true, false, false]);
  for (let taken = 0; taken < fitting; taken++) take();
  clock.advance(AGAIN_MS);
  expect(sent.at(-1)).toBe(String(fitting));
  sender.started();
});

test('DescriptorSender says once that the worker has ended, and sends no more', () => {
  sender.started();
  send('lost');
  send('after');
  expect([failures.length, sent, clock.pending]).toEqual([1, [], 0]);
});

test('DescriptorSender says of what has none when everything before it was sent', () => {
  const fitting = fill();
  sender.send({ key: 'behind', descriptors: [], onSent: () => sent.push('behind') });
  clock.advance(AGAIN_MS);
  expect(sent).toHaveLength(fitting);
  for (let taken = 0; taken < fitting; taken++) take();
  clock.advance(AGAIN_MS);
  expect(sent.slice(fitting)).toEqual([String(fitting), 'behind']);
  expect(() => receiveDescriptors(sender.far)).not.toThrow();
  expect(() => receiveDescriptors(sender.far)).toThrow();
  sender.started();
});
