import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drainSpool, fillSpool, segmentsIn, SpoolRig } from '../../tests/kit/spool-rig.ts';
import { sampleRecord } from './spool-sample.ts';
import type { Spool } from './spool.ts';

const rig = new SpoolRig();
afterEach(async () => await rig.closeAll());
afterAll(() => rig.remove());

describe('Spool.record()', () => {
  test('keeps records in order, chained, over segments and restarts', async () => {
    const directory = rig.fresh();
    const first = rig.open(directory, { segmentBytes: 4096 });
    fillSpool(first, 60);
    await first.close();
    const second = rig.open(directory, { segmentBytes: 4096 });
    fillSpool(second, 60);
    expect(segmentsIn(directory).length).toBeGreaterThan(5);
    expect(second.status.depth).toBe(120);
    const batches = await drainSpool(second);
    expect(batches.flatMap((batch) => batch.records)).toHaveLength(120);
    expect(new Set(batches.map((batch) => batch.epoch)).size).toBe(1);
    expect(second.status.depth).toBe(0);
    expect(segmentsIn(directory)).toHaveLength(1);
  });

  test('makes directory and files private', () => {
    const directory = rig.fresh();
    rig.open(directory);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(statSync(join(directory, segmentsIn(directory)[0]!)).mode & 0o777).toBe(0o600);
    chmodSync(directory, 0o755);
    expect(() => rig.open(directory)).toThrow('others may enter');
  });

  test('hands out nothing before it is on disk, and tells when it is', async () => {
    const spool = rig.open(rig.fresh(), { durability: 'group', groupMs: 20 });
    const ready = new Promise<void>((resolve) => spool.watch(resolve));
    fillSpool(spool, 3);
    expect(await spool.readBatch({ records: 10, bytes: 10_000 })).toBeUndefined();
    await ready;
    expect((await spool.readBatch({ records: 10, bytes: 10_000 }))?.count).toBe(3);
  });

  test('refuses when the spool is full, and takes records again once some were shipped', async () => {
    const spool = rig.open(rig.fresh(), { maxBytes: 20_000, segmentBytes: 4096 });
    let kept = 0;
    while (spool.record(sampleRecord(kept + 1))) kept++;
    expect(kept).toBeGreaterThan(20);
    expect(spool.status.refused).toBe(1);
    expect(spool.status.bytes).toBeLessThanOrEqual(20_000);
    await drainSpool(spool);
    expect(spool.record(sampleRecord(kept + 1))).toBe(true);
  });

  test('has room for what is allowed when denials have all that they may', async () => {
    const spool = rig.open(rig.fresh(), { maxBytes: 20_000, segmentBytes: 4096 });
    const record = (decision: 'allow' | 'deny'): boolean => spool.record({ ...sampleRecord(1), decision });
    while (record('deny')) expect(spool.status.bytes).toBeLessThan(16_000);
    expect(spool.status.bytes).toBeGreaterThan(15_000);
    expect(record('deny')).toBe(false);
    expect(spool.status).toMatchObject({ refused: 2 });
    expect(spool.status.refusing).toBeUndefined();
    expect(rig.lines.filter((line) => line.includes('audit_denials_refused'))).toHaveLength(1);
    let allowed = 0;
    while (record('allow')) allowed++;
    expect(allowed).toBeGreaterThan(5);
    spool.acknowledge(spool.status.epoch, spool.status.lastSequence);
    expect(record('deny')).toBe(true);
  });

  test('refuses after close()', async () => {
    const spool = rig.open(rig.fresh());
    await spool.close();
    expect(spool.record(sampleRecord(1))).toBe(false);
  });

  test('says once why it refuses, and once that it keeps records again', async () => {
    const spool = rig.open(rig.fresh(), { maxBytes: 20_000, segmentBytes: 4096 });
    const said = (event: string) => rig.lines.filter((line) => line.includes(event));
    let kept = 0;
    while (spool.record(sampleRecord(kept + 1))) kept++;
    for (let index = 0; index < 3; index++) expect(spool.record(sampleRecord(kept + 1))).toBe(false);
    expect(spool.status).toMatchObject({ refusing: 'spool_full', refused: 4 });
    expect(said('audit_records_refused')).toHaveLength(1);
    expect(said('audit_records_refused')[0]).toContain('"spool_full"');
    await drainSpool(spool);
    fillSpool(spool, 1);
    expect(spool.status.refusing).toBeUndefined();
    expect(said('audit_records_kept_again')).toHaveLength(1);
  });
});

describe('a spool on a full disk', () => {
  test('refuses, and recovers when space returns, without a gap in the chain', async () => {
    await withSmallDisk(async (disk) => {
      const filler = join(disk, 'filler');
      writeFileSync(filler, Buffer.alloc(150_000));
      const spool = rig.open(join(disk, 'spool'), { durability: 'group' });
      const kept = fillUp(spool);
      expect(kept).toBeGreaterThan(50);
      expect(spool.record(sampleRecord(kept + 1))).toBe(false);
      expect(spool.status.refusing).toBe('disk_full');
      unlinkSync(filler);
      expect(spool.record(sampleRecord(kept + 1))).toBe(true);
      await spool.close();
      const again = rig.open(join(disk, 'spool'));
      expect((await drainSpool(again)).flatMap((batch) => batch.records)).toHaveLength(kept + 1);
      await again.close();
    });
  });

  test('takes records again as soon as the server has all of them, though nobody else made room', async () => {
    await withSmallDisk(async (disk) => {
      const directory = join(disk, 'spool');
      const spool = rig.open(directory);
      const kept = fillUp(spool);
      expect(segmentsIn(directory)).toHaveLength(1);
      const { hash } = (await drainSpool(spool)).at(-1)!.records.at(-1)!;
      expect(spool.record(sampleRecord(kept + 1))).toBe(true);
      const more = fillUp(spool);
      expect(more).toBeGreaterThan(kept - 60);
      await spool.close();
      const again = rig.open(directory);
      expect(again.status.depth).toBe(more - kept);
      await drainSpool(again, Buffer.from(hash, 'hex'), kept + 1);
      expect(again.record(sampleRecord(more + 1))).toBe(true);
      await again.close();
    });
  });

  test('keeps what the server does not have, however often it is asked for room', async () => {
    await withSmallDisk(async (disk) => {
      const spool = rig.open(join(disk, 'spool'));
      const kept = fillUp(spool);
      const batch = (await spool.readBatch({ records: 10, bytes: 100_000 }))!;
      spool.acknowledge(batch.epoch, 10);
      for (let index = 0; index < 5; index++) expect(spool.record(sampleRecord(kept + 1))).toBe(false);
      expect(spool.status.depth).toBe(kept - 10);
      await spool.close();
    });
  });
});

/** Runs `work` with a disk of 256 KiB. */
async function withSmallDisk(work: (disk: string) => Promise<void>): Promise<void> {
  const disk = rig.fresh();
  mkdirSync(disk);
  expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]).status).toBe(0);
  try {
    await work(disk);
  } finally {
    await rig.closeAll();
    expect(spawnSync('umount', [disk]).status).toBe(0);
  }
}

/** Records until the spool refuses; the number of the last record that it kept. */
function fillUp(spool: Spool): number {
  while (spool.record(sampleRecord(spool.status.lastSequence + 1)));
  return spool.status.lastSequence;
}
