import { describe, expect, test } from 'bun:test';
import { UserTurns } from './user-turns.ts';

describe('UserTurns', () => {
  test('run() lets a user wait for himself and nobody else', async () => {
    const turns = new UserTurns({ maxAtOnce: 2, maxWaiting: 2 });
    const ends: (() => void)[] = [];
    const begun: string[] = [];
    const run = async (user: string, name: string): Promise<string | undefined> =>
      await turns.run(user, async () => {
        begun.push(name);
        await new Promise<void>((resolve) => ends.push(resolve));
        return name;
      });
    const all = [
      run('1', 'a'),
      run('1', 'b'),
      run('1', 'c'),
      run('1', 'd'),
      run('1', 'e'),
      run('2', 'other'),
    ];
    expect(begun).toEqual(['a', 'b', 'other']);
    expect(await all[4]).toBeUndefined();
    while (ends.length > 0) {
      ends.shift()?.();
      await Bun.sleep(0);
    }
    expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd', undefined, 'other']);
    expect(begun).toEqual(['a', 'b', 'other', 'c', 'd']);
  });

  test('run() gives a turn back when its work fails', async () => {
    const turns = new UserTurns({ maxAtOnce: 1, maxWaiting: 0 });
    const failing = turns.run('1', async () => await Promise.reject(new Error('broken')));
    expect(await failing.catch(() => 'failed')).toBe('failed');
    expect(await turns.run('1', () => Promise.resolve('next'))).toBe('next');
  });
});
