import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { changesOf } from '../../tests/kit/change-recorder.ts';
import { DATASTORES, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { readTrustBundles, storeTrustBundle } from './trust-bundles.ts';

describe.each(DATASTORES)('storeTrustBundle() (%s)', (_name, open) => {
  let kept: TestDatastore;
  beforeAll(async () => {
    kept = await open();
  });
  afterAll(() => kept.dispose());
  const bundle = (sequence: number, authority: number) => ({
    trustDomain: TEST_TRUST_DOMAIN,
    sequence,
    refreshHintSeconds: 300,
    x509Authorities: [Uint8Array.of(authority)],
  });

  test('lets agents know of each change and never counts backwards', async () => {
    const { datastore } = kept;
    const store = (sequence: number, authority: number) =>
      changesOf(datastore, () => storeTrustBundle(datastore, bundle(sequence, authority)));
    const sequence = async () => (await readTrustBundles(datastore.db))[0]?.sequence;
    expect(await store(5, 1)).toEqual(['bundle example.org']);
    expect(await store(5, 1)).toEqual([]);
    expect(await store(1, 1)).toEqual([]);
    expect(await sequence()).toBe(5);
    expect(await store(1, 2)).toEqual(['bundle example.org']);
    expect(await sequence()).toBe(6);
    expect(await store(9, 3)).toEqual(['bundle example.org']);
    expect(await readTrustBundles(datastore.db)).toEqual([
      { trustDomain: 'example.org', sequence: 9, refreshHintSeconds: 300, x509Authorities: ['Aw=='] },
    ]);
  });
});
