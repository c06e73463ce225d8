import { describe, expect, test } from 'bun:test';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { KEY_SOURCE_LIMITS, type KeySource } from './key-source.ts';

/** What a test does with the place that a source reads. */
export interface KeyPlace extends AsyncDisposable {
  readonly source: KeySource;
  /** From now on it holds this text; undefined: it is not there. */
  hold(text: string | undefined): Promise<void>;
}

/** What every key source promises (key-source.ts). */
export function describeKeySource(name: string, open: () => Promise<KeyPlace>): void {
  describe(`${name} as a key source`, () => {
    test('read() tells what is there now, each time', async () => {
      await using place = await open();
      for (const text of ['{"keys":[]}', '{"keys":[1]}', '']) {
        await place.hold(text);
        expect(await place.source.read()).toBe(text);
      }
    });

    test('read() rejects where nothing is there, and reads again when something is', async () => {
      await using place = await open();
      await place.hold(undefined);
      expect(await refusalOf(place.source.read())).toMatchObject({
        code: 'unavailable',
        reason: 'keys_unavailable',
      });
      await place.hold('{}');
      expect(await place.source.read()).toBe('{}');
    });

    test('read() takes so much at most', async () => {
      await using place = await open();
      const most = 'x'.repeat(KEY_SOURCE_LIMITS.bytes);
      await place.hold(most);
      expect(await place.source.read()).toBe(most);
      await place.hold(`${most}x`);
      expect(await refusalOf(place.source.read())).toMatchObject({ reason: 'keys_unavailable' });
    });
  });
}
