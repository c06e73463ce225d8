import { describe, expect, test } from 'bun:test';
import { sealedStoreContract } from './contract.ts';
import { HeldBackStore } from './held-back-store.ts';
import { MemoryStore } from './memory.ts';

const text = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : Buffer.from(value).toString();
const bytes = (value: string): Uint8Array => Buffer.from(value);

sealedStoreContract('HeldBackStore', () => Promise.resolve(new HeldBackStore(new MemoryStore())));

async function open(): Promise<{ readonly disk: MemoryStore; readonly store: HeldBackStore }> {
  const disk = new MemoryStore();
  await disk.write('a', bytes('old'));
  await disk.write('gone', bytes('old'));
  return { disk, store: new HeldBackStore(disk) };
}

describe('HeldBackStore', () => {
  test('writes nothing while it is held back, reads what would have been, and writes it when it is taken back', async () => {
    const { disk, store } = await open();
    await store.holdBack();
    expect(store.hasHeldBack).toBe(false);
    await store.write('a', bytes('new'));
    await store.delete('gone');
    expect(store.hasHeldBack).toBe(true);
    expect([text(await disk.read('a')), text(await disk.read('gone'))]).toEqual(['old', 'old']);
    expect([text(await store.read('a')), text(await store.read('gone'))]).toEqual(['new', undefined]);
    await store.takeBack();
    expect([text(await disk.read('a')), text(await disk.read('gone'))]).toEqual(['new', undefined]);
    await store.write('a', bytes('newer'));
    expect(text(await disk.read('a'))).toBe('newer');
  });

  test('holdBack() waits for what was begun', async () => {
    const disk = new MemoryStore();
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow = {
      read: async (name: string) => await disk.read(name),
      delete: async (name: string) => await disk.delete(name),
      write: async (name: string, value: Uint8Array) => {
        await promise;
        await disk.write(name, value);
      },
    };
    const store = new HeldBackStore(slow);
    const writing = store.write('a', bytes('begun'));
    let isHeld = false;
    const holding = store.holdBack().then(() => (isHeld = true));
    await Bun.sleep(0);
    expect(isHeld).toBe(false);
    resolve();
    await Promise.all([writing, holding]);
    expect(text(await disk.read('a'))).toBe('begun');
  });

  test('once it is given away it never writes again, and reads what the other process wrote', async () => {
    const { disk, store } = await open();
    await store.holdBack();
    await store.write('a', bytes('ours'));
    store.giveAway();
    await disk.write('a', bytes('theirs'));
    await store.write('a', bytes('ours'));
    await store.delete('gone');
    expect([text(await store.read('a')), text(await disk.read('gone'))]).toEqual(['theirs', 'old']);
  });
});
