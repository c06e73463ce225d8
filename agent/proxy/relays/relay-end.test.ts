import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { ScriptedStream } from '../fixtures/scripted-stream.ts';
import { AFTERWORD_BYTES, RelayEnd } from './relay-end.ts';
import { CLOSE_MS, LINGER_MS, RelayTimer } from './relay-timer.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';

const BROKEN: StreamFailure = { message: 'The other end broke off' };

function open() {
  const clock = new FakeClock();
  const [client, application] = [new ScriptedStream(), new ScriptedStream()];
  const told: (string | undefined)[] = [];
  let isClientEnded: boolean | undefined;
  const timer = new RelayTimer(clock);
  const end = new RelayEnd({
    client,
    application: () => application,
    timer,
    onEnding: () => (isClientEnded = client.isEnded),
    onOver: (failure) => told.push(failure?.message),
  });
  end.sideOpened();
  return { clock, client, application, told, timer, end, wasClientEnded: () => isClientEnded };
}

describe('RelayEnd', () => {
  test('inOrder() ends both sides after what they are still sent, and is over when both have closed', () => {
    const { clock, client, application, told, end, wasClientEnded } = open();
    expect(end.isAhead).toBe(true);
    end.inOrder();
    expect([wasClientEnded(), client.isEnded, application.isEnded]).toEqual([false, true, true]);
    expect([end.isAhead, end.isEnding, end.isOver]).toEqual([false, true, false]);
    end.sideClosed();
    expect(told).toEqual([]);
    end.sideClosed();
    expect([told, end.isOver, clock.pending]).toEqual([[undefined], true, 0]);
  });

  test('inOrder() breaks who does not end, after a long while', () => {
    const { clock, client, told, end } = open();
    end.inOrder();
    clock.advance(CLOSE_MS);
    expect([told, client.abortion?.failure?.message]).toEqual([['It did not end'], 'It did not end']);
  });

  test('afterRefusal() breaks a client that goes on sending, soon, also where the end had begun', () => {
    for (const hasBegun of [false, true]) {
      const { clock, application, told, end } = open();
      if (hasBegun) end.inOrder();
      end.afterRefusal();
      expect(application.isEnded).toBe(true);
      clock.advance(LINGER_MS);
      expect([told, application.abortion?.failure?.message]).toEqual([['It was refused'], 'It was refused']);
    }
  });

  test('afterRefusal() waits for a client that was given answers and may be reading them, as long as it takes something', () => {
    const { clock, client, told, end, timer } = open();
    end.answered();
    end.afterRefusal();
    clock.advance(LINGER_MS + CLOSE_MS - 1);
    timer.taken();
    clock.advance(CLOSE_MS - 1);
    expect([told, client.abortion]).toEqual([[], undefined]);
    clock.advance(1);
    expect([told, clock.pending]).toEqual([['It was refused'], 0]);
  });

  test('afterRefusal() breaks a client that goes on sending though it was given answers', () => {
    const { clock, told, end } = open();
    end.answered();
    end.afterRefusal();
    end.threwAway(10 * AFTERWORD_BYTES);
    clock.advance(LINGER_MS);
    end.threwAway(AFTERWORD_BYTES);
    expect(told).toEqual([]);
    end.threwAway(1);
    expect([told, clock.pending]).toEqual([['It was refused'], 0]);
  });

  test('is over once, and leaves no timer behind, whatever comes after the failure of one side', () => {
    const { clock, client, application, told, end } = open();
    end.inOrder();
    end.sideClosed(BROKEN);
    expect(application.abortion?.failure).toBe(BROKEN);
    end.sideClosed();
    end.bothClosed(undefined);
    end.atOnce({ message: 'too late' });
    end.afterRefusal();
    expect([told, client.abortion, clock.pending]).toEqual([[BROKEN.message], undefined, 0]);
  });

  test('sideDropped() leaves the client alone to be waited for', () => {
    const { told, end } = open();
    end.sideDropped();
    end.sideClosed();
    expect(told).toEqual([undefined]);
  });
});
