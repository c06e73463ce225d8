import { expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { ScriptedStream, settled } from '../fixtures/scripted-stream.ts';
import { LINGER_MS } from '../relays/relay-timer.ts';
import { endInOrder } from './end-in-order.ts';

test('endInOrder() waits until both have ended, whatever they still say', async () => {
  const [clock, one, other] = [new FakeClock(), new ScriptedStream(), new ScriptedStream()];
  const over = endInOrder([one, other], clock);
  expect([one.isEnded, other.isEnded]).toEqual([true, true]);
  one.says('late');
  one.closes();
  other.closes({ message: 'it broke' });
  await over;
  expect([one.abortion, other.abortion, clock.pending]).toEqual([undefined, undefined, 0]);
});

test('endInOrder() breaks what does not end in time, and nothing else', async () => {
  const [clock, one, other] = [new FakeClock(), new ScriptedStream(), new ScriptedStream()];
  const over = endInOrder([one, other], clock);
  one.closes();
  await settled();
  clock.advance(LINGER_MS - 1);
  expect(other.abortion).toBeUndefined();
  clock.advance(1);
  await over;
  expect([one.abortion, other.abortion]).toEqual([undefined, { failure: undefined }]);
});
