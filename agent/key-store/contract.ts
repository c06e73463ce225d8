import { describe, expect, test } from 'bun:test';
import type { SealedStore } from './sealed-store.ts';

/** The suite that every adapter of `SealedStore` passes. `make` gives an empty store each time. */
export function sealedStoreContract(adapter: string, make: () => Promise<SealedStore>): void {
  describe(`SealedStore by ${adapter}`, () => {
    test('read() of a name that was never written is undefined', async () => {
      expect(await (await make()).read('agent-svid')).toBeUndefined();
    });

    test('read() gives what write() took, for every byte value and for nothing', async () => {
      const store = await make();
      const everyByte = Uint8Array.from({ length: 256 }, (_, index) => index);
      await store.write('a', everyByte);
      await store.write('b', new Uint8Array(0));
      expect(await store.read('a')).toEqual(everyByte);
      expect(await store.read('b')).toEqual(new Uint8Array(0));
    });

    test('write() replaces, and does not touch other names', async () => {
      const store = await make();
      await store.write('a', Buffer.from('old'));
      await store.write('b', Buffer.from('other'));
      await store.write('a', Buffer.from('new'));
      expect(Buffer.from((await store.read('a'))!).toString()).toBe('new');
      expect(Buffer.from((await store.read('b'))!).toString()).toBe('other');
    });

    test('delete() forgets, and deleting what is not there is no error', async () => {
      const store = await make();
      await store.write('a', Buffer.from('old'));
      await store.delete('a');
      await store.delete('a');
      expect(await store.read('a')).toBeUndefined();
    });

    test('write() of one name many times at once leaves one whole value', async () => {
      const store = await make();
      const values = Array.from({ length: 16 }, (_, index) => Buffer.alloc(4096, index));
      await Promise.all(values.map(async (value) => await store.write('a', value)));
      const kept = Buffer.from((await store.read('a'))!);
      expect(values.some((value) => value.equals(kept))).toBe(true);
    });

    test('the value that was written is not shared with the caller', async () => {
      const store = await make();
      const value = Buffer.from('abc');
      await store.write('a', value);
      value[0] = 0x7a;
      expect(Buffer.from((await store.read('a'))!).toString()).toBe('abc');
    });
  });
}
