import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { fillSpool, SpoolRig } from '../../tests/kit/spool-rig.ts';
import { chainHash } from './spool-frame.ts';
import { sampleRecord } from './spool-sample.ts';

const rig = new SpoolRig();
afterEach(async () => await rig.closeAll());
afterAll(() => rig.remove());

describe('Spool.acknowledge()', () => {
  test('ships again what a restored server lacks', async () => {
    const spool = rig.open(rig.fresh(), { segmentBytes: 4096 });
    fillSpool(spool, 30);
    const { epoch } = (await spool.readBatch({ records: 1000, bytes: 2000 }))!;
    expect(spool.acknowledge(epoch, 4)).toBe('known');
    expect(spool.acknowledge(epoch, 2)).toBe('known');
    const again = await spool.readBatch({ records: 5, bytes: 9000 });
    expect([again?.records[0]?.sequence, again?.gap]).toEqual([3, undefined]);
  });

  test('tells of a gap when the server lacks what is no longer held, until it is closed', async () => {
    const spool = rig.open(rig.fresh(), { segmentBytes: 4096 });
    fillSpool(spool, 30);
    const { epoch } = spool.status;
    const hashes: Buffer[] = [Buffer.alloc(32)];
    for (let index = 1; index <= 30; index++)
      hashes.push(chainHash(hashes[index - 1]!, Buffer.from(JSON.stringify(sampleRecord(index)))));
    expect(spool.acknowledge(epoch, 25)).toBe('known');
    expect(spool.acknowledge(epoch, 2)).toBe('missing');
    const behind = (await spool.readBatch({ records: 1000, bytes: 100_000 }))!;
    const first = behind.records[0]!.sequence;
    expect(first).toBeGreaterThan(3);
    expect(behind.gap).toEqual({ after: 2, hash: hashes[first - 1]!.toString('hex') });
    const { depth } = spool.status;
    expect(depth).toBe(30 - first + 1);
    expect(spool.acknowledge(epoch, first)).toBe('known');
    expect((await spool.readBatch({ records: 1, bytes: 1 }))?.gap).toBeUndefined();
  });

  test('believes no server that claims more than was recorded', () => {
    const spool = rig.open(rig.fresh());
    fillSpool(spool, 30);
    const { epoch } = spool.status;
    expect(spool.acknowledge(epoch, 31)).toBe('ahead');
    expect(spool.status.depth).toBe(30);
    expect(spool.acknowledge('00'.repeat(16), 31)).toBe('known');
    expect(spool.status.depth).toBe(30);
  });
});
