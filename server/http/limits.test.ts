import { describe, expect, test } from 'bun:test';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { RateLimit, readBody } from './limits.ts';

function manualClock(): Clock & { advance(ms: number): void } {
  let now = 0;
  return {
    nowMs: () => now,
    monotonicMs: () => now,
    schedule: (delayMs, callback) => systemClock.schedule(delayMs, callback),
    advance: (ms) => (now += ms),
  };
}

function post(body: string | ReadableStream<Uint8Array>): Request {
  return new Request('http://localhost/', { method: 'POST', body });
}

function streamOf(chunks: readonly Uint8Array[]): ReadableStream<Uint8Array> {
  const left = [...chunks];
  return new ReadableStream({
    pull(controller) {
      const chunk = left.shift();
      if (chunk === undefined) controller.close();
      else controller.enqueue(chunk);
    },
  });
}

describe('readBody()', () => {
  const limits = { maxBytes: 8, withinMs: 60_000, clock: systemClock };

  test('readBody() takes a body of exactly the bound, and one of several chunks', async () => {
    expect(Buffer.from(await readBody(post('12345678'), limits)).toString()).toBe('12345678');
    const chunks = streamOf([Buffer.from('abc'), Buffer.from('def')]);
    expect(Buffer.from(await readBody(post(chunks), limits)).toString()).toBe('abcdef');
    expect(await readBody(new Request('http://localhost/'), limits)).toHaveLength(0);
  });

  test('readBody() refuses one byte more, announced or not', async () => {
    const chunks = streamOf([Buffer.from('12345678'), Buffer.from('9')]);
    for (const body of ['123456789', chunks]) {
      const reading = readBody(post(body), limits);
      expect(reading).rejects.toMatchObject({ code: 'invalid_argument', reason: 'body_too_large' });
      await reading.catch(() => undefined);
    }
  });

  test('readBody() gives up on a body that does not end in time, and cancels it', async () => {
    const cancelled = Promise.withResolvers<void>();
    const endless = new ReadableStream({
      start: (controller) => controller.enqueue(Buffer.from('1')),
      cancel: () => cancelled.resolve(),
    });
    expect(readBody(post(endless), { ...limits, withinMs: 20 })).rejects.toMatchObject({
      code: 'deadline_exceeded',
      reason: 'request_timeout',
    });
    await cancelled.promise;
  });

  test('readBody() reports a body that breaks off', async () => {
    const broken = new ReadableStream({ pull: (controller) => controller.error(new Error('reset')) });
    expect(readBody(post(broken), limits)).rejects.toMatchObject({ reason: 'body_incomplete' });
  });
});

describe('RateLimit', () => {
  test('tryTake() gives a burst and then so many a second', () => {
    const clock = manualClock();
    const limit = new RateLimit({ burst: 3, perSecond: 2, clock });
    expect([1, 2, 3, 4].map(() => limit.tryTake('a'))).toEqual([true, true, true, false]);
    expect(limit.tryTake('b')).toBe(true);
    clock.advance(500);
    expect([limit.tryTake('a'), limit.tryTake('a')]).toEqual([true, false]);
    clock.advance(60_000);
    expect([1, 2, 3, 4].map(() => limit.tryTake('a'))).toEqual([true, true, true, false]);
  });

  test('tryTake() refuses new keys while its memory is full of spent buckets, and frees full ones', () => {
    const clock = manualClock();
    const limit = new RateLimit({ burst: 1, perSecond: 1, clock });
    for (let index = 0; index < 50_000; index++) limit.tryTake(String(index));
    expect(limit.tryTake('new')).toBe(false);
    clock.advance(1000);
    expect(limit.tryTake('new')).toBe(true);
  });
});
