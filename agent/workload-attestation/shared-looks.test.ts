import { describe, expect, test } from 'bun:test';
import { SharedLooks } from './shared-looks.ts';

/** Looks that end when the test says so, numbered in the order of their beginning. */
class Looks {
  readonly shared = new SharedLooks<number>();
  readonly #ends: (() => void)[] = [];
  readonly #fails: (() => void)[] = [];

  get begun(): number {
    return this.#ends.length;
  }

  async ask(key: string): Promise<number> {
    return await this.shared.ask(key, async () => {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      const number = this.#ends.length;
      this.#ends.push(() => resolve(number));
      this.#fails.push(() => reject(new Error('broken')));
      return await promise;
    });
  }

  async end(number: number): Promise<void> {
    this.#ends[number]?.();
    await Bun.sleep(0);
  }

  async fail(number: number): Promise<void> {
    this.#fails[number]?.();
    await Bun.sleep(0);
  }
}

describe('SharedLooks', () => {
  test('ask() answers what came during a look by one more look, and never by the one under way', async () => {
    const looks = new Looks();
    const first = looks.ask('a');
    const others = [looks.ask('a'), looks.ask('a'), looks.ask('a')];
    expect(looks.begun).toBe(1);
    await looks.end(0);
    expect(looks.begun).toBe(2);
    const late = looks.ask('a');
    await looks.end(1);
    await looks.end(2);
    expect(await Promise.all([first, ...others, late])).toEqual([0, 1, 1, 1, 2]);
    const fresh = looks.ask('a');
    await looks.end(3);
    expect(await fresh).toBe(3);
  });

  test('ask() keeps different questions apart', async () => {
    const looks = new Looks();
    const answers = [looks.ask('a'), looks.ask('b')];
    expect(looks.begun).toBe(2);
    await looks.end(1);
    await looks.end(0);
    expect(await Promise.all(answers)).toEqual([0, 1]);
  });

  test('ask() looks again after a look that failed', async () => {
    const looks = new Looks();
    const first = looks.ask('a').catch(() => 'failed');
    const second = looks.ask('a');
    await looks.fail(0);
    await looks.end(1);
    expect(await Promise.all([first, second])).toEqual(['failed', 1]);
  });
});
