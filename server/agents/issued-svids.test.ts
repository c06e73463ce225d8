import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { decodePem } from '../../shared/wire/pem.ts';
import { DATASTORES, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { IssuedSvids, type SvidIssue } from './issued-svids.ts';

describe.each(DATASTORES)('IssuedSvids (%s)', (_name, open) => {
  let kept: TestDatastore;
  let svids: IssuedSvids;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    svids = new IssuedSvids({ datastore: kept.datastore, clock });
  });
  afterAll(() => kept.dispose());

  const chain = [Uint8Array.from({ length: 100 }, (_, i) => i), Uint8Array.of(1, 2, 3)];
  const issue = (serial: string, lifeMs: number): SvidIssue => ({
    certificate: {
      spiffeId: testWorkloadId('/a'),
      chain,
      serial,
      notBeforeMs: clock.nowMs(),
      notAfterMs: clock.nowMs() + lifeMs,
    },
    nodeId: testAgentId('one'),
    entryId: null,
  });

  test('listCurrent() shows what has not ended, the newest first, and prune() forgets the rest', async () => {
    await svids.record([]);
    await svids.record([issue('01', 1000), issue('02', 3000), issue('03', 2000)]);
    expect((await svids.listCurrent(testWorkloadId('/a'))).map((svid) => svid.serial)).toEqual([
      '02',
      '03',
      '01',
    ]);
    clock.advance(1000);
    const current = await svids.listCurrent(testWorkloadId('/a'));
    expect(current.map((svid) => svid.serial)).toEqual(['02', '03']);
    expect(decodePem(current[0]!.chainPem).map((block) => [...block.der])).toEqual(
      chain.map((der) => [...der]),
    );
    expect(await svids.listCurrent(testWorkloadId('/b'))).toEqual([]);
    clock.advance(1500);
    expect(await svids.prune()).toBe(2);
    expect(await svids.prune()).toBe(0);
  });

  test('record() keeps a whole signing batch or nothing', async () => {
    await svids.record(Array.from({ length: 200 }, (_, i) => issue(`b${i}`, 1000)));
    expect(svids.record([issue('new', 1000), issue('b0', 1000)])).rejects.toThrow();
    const serials = (await svids.listCurrent(testWorkloadId('/a'))).map((svid) => svid.serial);
    expect(serials).toContain('b199');
    expect(serials).not.toContain('new');
  });
});
