import { describe, expect, test } from 'bun:test';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
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
  const limits = { maxBytes: 8, bodyMs: 60_000, bodyBytesPerSecond: 1, clock: systemClock };

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
    expect(readBody(post(endless), { ...limits, bodyMs: 20 })).rejects.toMatchObject({
      code: 'deadline_exceeded',
      reason: 'request_timeout',
    });
    await cancelled.promise;
  });

  /** A body that comes piece by piece, as the test says. */
  function bodyInPieces(bound: { readonly bodyMs: number; readonly bodyBytesPerSecond: number }) {
    const clock = new FakeClock();
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const read = readBody(post(readable), { ...bound, maxBytes: 1000, clock }).then(
      (bytes) => bytes.length,
      (error: unknown) => error,
    );
    const comes = async (bytes: number): Promise<void> => {
      await writer.write(new Uint8Array(bytes));
      await Bun.sleep(1);
    };
    return { clock, read, comes, end: async () => await writer.close() };
  }

  test('readBody() takes a body that is slow, but faster than it must be', async () => {
    const { clock, read, comes, end } = bodyInPieces({ bodyMs: 20_000, bodyBytesPerSecond: 10 });
    for (let i = 0; i < 10; i++) {
      await comes(100);
      clock.advance(11_000);
    }
    await end();
    expect([await read, clock.pending]).toEqual([1000, 0]);
  });

  test('readBody() gives up on a body that comes byte by byte', async () => {
    const { clock, read, comes } = bodyInPieces({ bodyMs: 20_000, bodyBytesPerSecond: 10 });
    for (let i = 0; i < 20; i++) {
      await comes(1);
      clock.advance(1000);
    }
    // Twenty bytes have given it two seconds.
    await comes(1);
    clock.advance(3000);
    expect(await read).toMatchObject({ code: 'deadline_exceeded', reason: 'request_timeout' });
    expect(clock.pending).toBe(0);
  });

  test('readBody() does not lay it to the body where the server itself stood still', async () => {
    const due: (() => void)[] = [];
    const schedule: Clock['schedule'] = (_, callback) => {
      due.push(callback);
      return () => undefined;
    };
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const read = readBody(post(readable), { ...limits, clock: { ...systemClock, schedule } });
    // What fell due in all that time is called before anything is read.
    for (const callback of due.splice(0)) callback();
    const writer = writable.getWriter();
    await writer.write(Buffer.from('1'));
    await writer.close();
    expect(await read).toHaveLength(1);
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
