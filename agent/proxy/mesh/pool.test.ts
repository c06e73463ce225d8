import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { Pool, type Poolable } from './pool.ts';

class Connection implements Poolable {
  isUsable = true;
  retired = 0;

  retire(): void {
    this.retired += 1;
  }
}

const LIMITS = { idleMs: 1000, maxIdle: 3, maxIdlePerKey: 2 };

function open(): { readonly clock: FakeClock; readonly pool: Pool<Connection> } {
  const clock = new FakeClock();
  return { clock, pool: new Pool<Connection>(LIMITS, clock) };
}

describe('Pool', () => {
  test('take() gives the connection used last, each once, and leaves no timer', () => {
    const { clock, pool } = open();
    const [first, second] = [new Connection(), new Connection()];
    pool.put('a', first);
    pool.put('a', second);
    expect(pool.take('b')).toBeUndefined();
    expect(pool.take('a')).toBe(second);
    expect(pool.take('a')).toBe(first);
    expect(pool.take('a')).toBeUndefined();
    expect([pool.size, clock.pending, first.retired]).toEqual([0, 0, 0]);
  });

  test('take() retires what is not usable any more and goes on to the next', () => {
    const { clock, pool } = open();
    const [good, stale] = [new Connection(), new Connection()];
    pool.put('a', good);
    pool.put('a', stale);
    stale.isUsable = false;
    expect(pool.take('a')).toBe(good);
    expect([stale.retired, clock.pending]).toEqual([1, 0]);
  });

  test('put() retires the oldest beyond the limit of its key and of all', () => {
    const { clock, pool } = open();
    const ofA = [new Connection(), new Connection(), new Connection()];
    for (const connection of ofA) pool.put('a', connection);
    expect(ofA.map((connection) => connection.retired)).toEqual([1, 0, 0]);
    pool.put('b', new Connection());
    pool.put('c', new Connection());
    expect(ofA.map((connection) => connection.retired)).toEqual([1, 1, 0]);
    expect([pool.size, clock.pending]).toEqual([LIMITS.maxIdle, LIMITS.maxIdle]);
  });

  test('putSpare() puts it where it is taken last, and where it gives way first', () => {
    const { pool } = open();
    const [used, spare, others] = [new Connection(), new Connection(), [new Connection(), new Connection()]];
    pool.put('a', used);
    pool.putSpare('a', spare);
    expect(pool.take('a')).toBe(used);
    expect([pool.countOf('a'), pool.countOf('b')]).toEqual([1, 0]);
    pool.put('a', used);
    for (const [index, other] of others.entries()) pool.put(`other ${index}`, other);
    expect([used, spare, ...others].map(({ retired }) => retired)).toEqual([0, 1, 0, 0]);
    expect(pool.take('a')).toBe(used);
    expect(pool.take('a')).toBeUndefined();
  });

  test('put() retires the spare of its key first, and a spare that was taken is one no more', () => {
    const { pool } = open();
    const [first, second, spare] = [new Connection(), new Connection(), new Connection()];
    pool.putSpare('a', spare);
    pool.put('a', first);
    pool.put('a', second);
    expect([first.retired, second.retired, spare.retired]).toEqual([0, 0, 1]);
    const taken = new Connection();
    pool.putSpare('b', taken);
    pool.put('b', pool.take('b')!);
    pool.put('c', new Connection());
    expect([first.retired, taken.retired]).toEqual([1, 0]);
  });

  test('isFullFor() is true where one more would push another out', () => {
    const { pool } = open();
    expect(pool.isFullFor('a')).toBe(false);
    pool.put('a', new Connection());
    pool.put('a', new Connection());
    expect([pool.isFullFor('a'), pool.isFullFor('b')]).toEqual([true, false]);
    pool.put('b', new Connection());
    expect(pool.isFullFor('c')).toBe(true);
  });

  test('a connection that idles too long is retired, one that was removed is not', () => {
    const { clock, pool } = open();
    const [idle, removed] = [new Connection(), new Connection()];
    pool.put('a', idle);
    pool.put('a', removed);
    pool.remove(removed);
    pool.remove(removed);
    clock.advance(LIMITS.idleMs);
    expect([idle.retired, removed.retired, pool.size, clock.pending]).toEqual([1, 0, 0, 0]);
  });
});
