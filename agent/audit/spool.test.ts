import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditBatch } from '../../shared/protocol/audit.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { sampleRecord } from './spool-sample.ts';
import { Spool, type SpoolOptions } from './spool.ts';

const root = mkdtempSync(join(tmpdir(), 'picket-spool-'));
let made = 0;
let lines: string[] = [];
const opened: Spool[] = [];

afterEach(async () => {
  lines = [];
  for (const spool of opened.splice(0)) await spool.close();
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function fresh(): string {
  return join(root, `spool-${made++}`);
}

function openSpool(directory: string, options: Partial<SpoolOptions> = {}): Spool {
  const log = createLog({ level: 'debug', nowMs: Date.now, write: (line) => lines.push(line) });
  const base = { directory, maxBytes: 1 << 24, durability: 'sync', clock: systemClock, log } as const;
  const spool = new Spool({ ...base, ...options });
  opened.push(spool);
  return spool;
}

function fill(spool: Spool, count: number): void {
  for (let index = 0; index < count; index++)
    if (!spool.record(sampleRecord(spool.status.lastSequence + 1))) throw new Error('refused');
}

/** Ships everything to nowhere, checking numbers, content and chain, and returns the batches. */
async function drain(spool: Spool, previous = Buffer.alloc(32), first = 1): Promise<AuditBatch[]> {
  const batches: AuditBatch[] = [];
  let hash = previous;
  let sequence = first;
  for (;;) {
    const batch = await spool.readBatch({ records: 40, bytes: 100_000 });
    if (batch === undefined) return batches;
    for (const item of batch.records) {
      hash = createHash('sha256').update(hash).update(item.record).digest();
      expect([item.sequence, item.hash]).toEqual([sequence, hash.toString('hex')]);
      expect(JSON.parse(item.record)).toEqual(sampleRecord(sequence));
      sequence++;
    }
    batches.push(batch);
    expect(spool.acknowledge(batch.epoch, sequence - 1)).toBe(true);
  }
}

const segmentsIn = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.endsWith('.segment'))
    .sort();

describe('Spool.record()', () => {
  test('keeps records in order, chained, over segments and restarts', async () => {
    const directory = fresh();
    const first = openSpool(directory, { segmentBytes: 4096 });
    fill(first, 60);
    await first.close();
    const second = openSpool(directory, { segmentBytes: 4096 });
    fill(second, 60);
    expect(segmentsIn(directory).length).toBeGreaterThan(5);
    expect(second.status.depth).toBe(120);
    const batches = await drain(second);
    expect(batches.flatMap((batch) => batch.records)).toHaveLength(120);
    expect(new Set(batches.map((batch) => batch.epoch)).size).toBe(1);
    expect(second.status.depth).toBe(0);
    expect(segmentsIn(directory)).toHaveLength(1);
  });

  test('makes directory and files private', () => {
    const directory = fresh();
    openSpool(directory);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(statSync(join(directory, segmentsIn(directory)[0]!)).mode & 0o777).toBe(0o600);
    chmodSync(directory, 0o755);
    expect(() => openSpool(directory)).toThrow('others may enter');
  });

  test('hands out nothing before it is on disk, and tells when it is', async () => {
    const spool = openSpool(fresh(), { durability: 'group', groupMs: 20 });
    const ready = new Promise<void>((resolve) => spool.watch(resolve));
    fill(spool, 3);
    expect(await spool.readBatch({ records: 10, bytes: 10_000 })).toBeUndefined();
    await ready;
    expect((await spool.readBatch({ records: 10, bytes: 10_000 }))?.records).toHaveLength(3);
  });

  test('refuses when the spool is full, slows down before, and takes records again once some were shipped', async () => {
    const spool = openSpool(fresh(), { maxBytes: 20_000, segmentBytes: 4096 });
    expect(spool.delayMs()).toBe(0);
    let kept = 0;
    while (spool.record(sampleRecord(kept + 1))) kept++;
    expect(kept).toBeGreaterThan(20);
    expect(spool.delayMs()).toBeGreaterThan(100);
    expect(spool.status.refused).toBe(1);
    expect(spool.status.bytes).toBeLessThanOrEqual(20_000);
    await drain(spool);
    expect(spool.record(sampleRecord(kept + 1))).toBe(true);
    expect(spool.delayMs()).toBe(0);
  });

  test('refuses after close()', async () => {
    const spool = openSpool(fresh());
    await spool.close();
    expect(spool.record(sampleRecord(1))).toBe(false);
  });

  test('refuses on a full disk and recovers when space returns, without a gap in the chain', async () => {
    const disk = fresh();
    mkdirSync(disk);
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]).status).toBe(0);
    try {
      const filler = join(disk, 'filler');
      writeFileSync(filler, Buffer.alloc(150_000));
      const spool = openSpool(join(disk, 'spool'), { durability: 'group' });
      let kept = 0;
      while (spool.record(sampleRecord(kept + 1))) kept++;
      expect(kept).toBeGreaterThan(50);
      expect(spool.record(sampleRecord(kept + 1))).toBe(false);
      unlinkSync(filler);
      expect(spool.record(sampleRecord(kept + 1))).toBe(true);
      await spool.close();
      const again = openSpool(join(disk, 'spool'));
      expect((await drain(again)).flatMap((batch) => batch.records)).toHaveLength(kept + 1);
      await again.close();
    } finally {
      expect(spawnSync('umount', [disk]).status).toBe(0);
    }
  });
});

describe('Spool.acknowledge()', () => {
  test('ships again what a restored server lacks and reports what is no longer here', async () => {
    const spool = openSpool(fresh(), { segmentBytes: 4096 });
    fill(spool, 30);
    const batch = await spool.readBatch({ records: 1000, bytes: 2000 });
    const { epoch } = batch!;
    expect(spool.acknowledge(epoch, 4)).toBe(true);
    expect(spool.acknowledge(epoch, 2)).toBe(true);
    expect((await spool.readBatch({ records: 5, bytes: 9000 }))?.records[0]?.sequence).toBe(3);
    expect(spool.acknowledge(epoch, 25)).toBe(true);
    expect(spool.acknowledge(epoch, 2)).toBe(false);
    expect(spool.acknowledge(epoch, 31)).toBe(false);
    expect(spool.acknowledge('00'.repeat(16), 31)).toBe(true);
  });
});

describe('a spool after damage', () => {
  test('loses only the torn record when the last segment is cut at any byte', async () => {
    const directory = fresh();
    const spool = openSpool(directory);
    fill(spool, 3);
    await spool.close();
    const path = join(directory, segmentsIn(directory)[0]!);
    const whole = readFileSync(path);
    const frame = JSON.stringify(sampleRecord(3)).length + 44;
    for (let cut = 1; cut < frame; cut += 7) {
      writeFileSync(path, whole.subarray(0, whole.length - cut));
      const again = openSpool(directory);
      expect(again.status.lastSequence).toBe(2);
      fill(again, 1);
      await again.close();
      expect(readFileSync(path)).toEqual(whole);
    }
    expect(lines.some((line) => line.includes('audit_torn_record_cut'))).toBe(true);
  });

  test('starts anew over a segment whose head was not finished', async () => {
    const directory = fresh();
    const spool = openSpool(directory);
    fill(spool, 3);
    await spool.close();
    writeFileSync(join(directory, '000000000002.segment'), 'PKSP', { mode: 0o600 });
    const again = openSpool(directory);
    fill(again, 1);
    expect(await drain(again)).toHaveLength(1);
  });

  test('keeps damaged segments aside and goes on in a new epoch after shipping what is good', async () => {
    const directory = fresh();
    const spool = openSpool(directory, { segmentBytes: 2000 });
    fill(spool, 40);
    const { epoch } = spool.status;
    await spool.close();
    const names = segmentsIn(directory);
    truncateSync(join(directory, names[2]!), 400);
    const again = openSpool(directory, { segmentBytes: 2000 });
    expect(lines.filter((line) => line.includes('audit_segment_damaged')).length).toBeGreaterThan(0);
    expect(again.status.epoch).not.toBe(epoch);
    expect(readdirSync(directory).filter((name) => name.endsWith('.damaged')).length).toBe(names.length - 3);
    expect(again.record(sampleRecord(1))).toBe(true);
    const old = await again.readBatch({ records: 1000, bytes: 100_000 });
    expect([old!.epoch, old!.records[0]!.sequence]).toEqual([epoch, 1]);
    const position = { last: 0 };
    for (;;) {
      const batch = await again.readBatch({ records: 1000, bytes: 100_000 });
      if (batch?.epoch !== epoch) break;
      position.last = batch.records.at(-1)!.sequence;
      again.acknowledge(epoch, position.last);
    }
    expect(position.last).toBeGreaterThan(5);
    expect(await drain(again)).toHaveLength(1);
  });
});

describe('a spool whose process is killed', () => {
  test('has every record that record() said was kept, and can be continued', async () => {
    for (const lifeMs of [120, 260, 410]) {
      const directory = fresh();
      const child = Bun.spawn([process.execPath, join(import.meta.dir, 'spool-child.ts'), directory], {
        stdout: 'pipe',
        stderr: 'inherit',
      });
      const reader = child.stdout.getReader();
      let told = '';
      const started = { atMs: 0 };
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        told += Buffer.from(value).toString();
        if (started.atMs === 0) started.atMs = Date.now();
        if (Date.now() - started.atMs > lifeMs) process.kill(child.pid, 'SIGKILL');
      }
      expect(child.signalCode ?? (await child.exited)).not.toBe(0);
      const kept = Number(told.slice(0, told.lastIndexOf('\n')).split('\n').at(-1));
      expect(kept).toBeGreaterThan(100);
      const spool = openSpool(directory);
      expect(spool.status.lastSequence).toBeGreaterThanOrEqual(kept);
      fill(spool, 1);
      const { lastSequence } = spool.status;
      expect((await drain(spool)).flatMap((batch) => batch.records)).toHaveLength(lastSequence);
    }
  });
});
