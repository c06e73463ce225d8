import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkBatch, SPOOL_START } from '../../server/audit/audit-chain.ts';
import { readFramed, testFrames, testSpool } from '../../tests/kit/audit-batches.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { fillSpool, segmentsIn, SpoolRig } from '../../tests/kit/spool-rig.ts';
import { chainHash, SEGMENT_HEAD_BYTES } from './spool-frame.ts';
import { sampleRecord } from './spool-sample.ts';
import type { Spool } from './spool.ts';

const rig = new SpoolRig();
afterEach(async () => await rig.closeAll());
afterAll(() => rig.remove());

/** A spool of five records, of whose file one byte was changed under it: in the head or the text of the third frame. */
async function changedUnderneath(offset: number): Promise<Spool> {
  const directory = rig.fresh();
  const spool = rig.open(directory);
  fillSpool(spool, 5);
  const { frames } = (await spool.readBatch({ records: 2, bytes: 100_000 }))!;
  const path = join(directory, segmentsIn(directory)[0]!);
  const bytes = readFileSync(path);
  const at = SEGMENT_HEAD_BYTES + frames.length + offset;
  bytes[at]! ^= 0x40;
  writeFileSync(path, bytes);
  return spool;
}

describe('Spool.readBatch()', () => {
  test('takes neither more records nor more bytes than it may, and one record in any case', async () => {
    const spool = rig.open(rig.fresh(), { segmentBytes: 4096 });
    fillSpool(spool, 30);
    const limits = [
      { records: 4, bytes: 100_000 },
      { records: 1000, bytes: 1 },
      { records: 1000, bytes: testFrames(testSpool([JSON.stringify(sampleRecord(1))])).length + 1 },
    ];
    for (const [index, count] of [4, 1, 2].entries()) {
      const batch = (await spool.readBatch(limits[index]!))!;
      expect([batch.firstSequence, batch.count]).toEqual([1, count]);
      const expected = Array.from({ length: count }, (_, i) => JSON.stringify(sampleRecord(i + 1)));
      expect(batch.frames).toEqual(testFrames(testSpool(expected)));
    }
  });

  test('gives what stands before a frame whose border is damaged, and then says so', async () => {
    // The last byte of its length is another: a frame of that length may stand there. See below.
    for (const offset of [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]) {
      const spool = await changedUnderneath(offset);
      const batch = (await spool.readBatch({ records: 1000, bytes: 100_000 }))!;
      expect([batch.firstSequence, batch.count]).toEqual([1, 2]);
      spool.acknowledge(batch.epoch, 2);
      expect(await refusalOf(spool.readBatch({ records: 1000, bytes: 100_000 }))).toMatchObject({
        code: 'internal',
        reason: 'spool_damaged',
      });
      expect(spool.status.depth).toBe(3);
    }
  });

  test('leaves to the server what the chain alone shows: nothing of it is taken', async () => {
    for (const offset of [3, 12, 43, 44, 60, 100]) {
      const spool = await changedUnderneath(offset);
      const batch = readFramed((await spool.readBatch({ records: 1000, bytes: 100_000 }))!);
      expect(reasonOf(() => checkBatch(batch, SPOOL_START))).toBe('audit_chain_broken');
    }
  });
});

describe('Spool.acknowledge()', () => {
  test('ships again what a restored server lacks', async () => {
    const spool = rig.open(rig.fresh(), { segmentBytes: 4096 });
    fillSpool(spool, 30);
    const { epoch } = (await spool.readBatch({ records: 1000, bytes: 2000 }))!;
    expect(spool.acknowledge(epoch, 4)).toBe('known');
    expect(spool.acknowledge(epoch, 2)).toBe('known');
    const again = (await spool.readBatch({ records: 5, bytes: 9000 }))!;
    const sequences = readFramed(again).records.map(({ sequence }) => sequence);
    expect([sequences, again.firstSequence, again.count]).toEqual([[3, 4, 5, 6, 7], 3, 5]);
    expect(again.gap).toBeUndefined();
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
    const first = readFramed(behind).records[0]!.sequence;
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
