import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFramed } from '../../tests/kit/audit-batches.ts';
import { drainSpool, fillSpool, segmentsIn, SpoolRig } from '../../tests/kit/spool-rig.ts';
import { sampleRecord } from './spool-sample.ts';

const rig = new SpoolRig();
afterEach(async () => await rig.closeAll());
afterAll(() => rig.remove());

describe('a spool after damage', () => {
  test('loses only the torn record when the last segment is cut at any byte', async () => {
    const directory = rig.fresh();
    const spool = rig.open(directory);
    fillSpool(spool, 3);
    await spool.close();
    const path = join(directory, segmentsIn(directory)[0]!);
    const whole = readFileSync(path);
    const frame = JSON.stringify(sampleRecord(3)).length + 44;
    for (let cut = 1; cut < frame; cut += 7) {
      writeFileSync(path, whole.subarray(0, whole.length - cut));
      const again = rig.open(directory);
      expect(again.status.lastSequence).toBe(2);
      fillSpool(again, 1);
      await again.close();
      expect(readFileSync(path)).toEqual(whole);
    }
    expect(rig.lines.some((line) => line.includes('audit_torn_record_cut'))).toBe(true);
  });

  test('starts anew over a segment whose head was not finished', async () => {
    const directory = rig.fresh();
    const spool = rig.open(directory);
    fillSpool(spool, 3);
    await spool.close();
    writeFileSync(join(directory, '000000000002.segment'), 'PKSP', { mode: 0o600 });
    const again = rig.open(directory);
    fillSpool(again, 1);
    expect(await drainSpool(again)).toHaveLength(1);
  });

  test('keeps damaged segments aside and goes on in a new epoch after shipping what is good', async () => {
    const directory = rig.fresh();
    const spool = rig.open(directory, { segmentBytes: 2000 });
    fillSpool(spool, 40);
    const { epoch } = spool.status;
    await spool.close();
    const names = segmentsIn(directory);
    truncateSync(join(directory, names[2]!), 400);
    const again = rig.open(directory, { segmentBytes: 2000 });
    expect(rig.lines.filter((line) => line.includes('audit_segment_damaged')).length).toBeGreaterThan(0);
    expect(again.status.epoch).not.toBe(epoch);
    expect(readdirSync(directory).filter((name) => name.endsWith('.damaged')).length).toBe(names.length - 3);
    expect(again.record(sampleRecord(1))).toBe(true);
    const old = await again.readBatch({ records: 1000, bytes: 100_000 });
    expect([old!.epoch, readFramed(old!).records[0]!.sequence]).toEqual([epoch, 1]);
    const position = { last: 0 };
    for (;;) {
      const batch = await again.readBatch({ records: 1000, bytes: 100_000 });
      if (batch?.epoch !== epoch) break;
      position.last = readFramed(batch).records.at(-1)!.sequence;
      again.acknowledge(epoch, position.last);
    }
    expect(position.last).toBeGreaterThan(5);
    expect(await drainSpool(again)).toHaveLength(1);
  });
});

describe('a spool whose process is killed', () => {
  test('has every record that record() said was kept, and can be continued', async () => {
    for (const lifeMs of [120, 260, 410]) {
      const directory = rig.fresh();
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
        const isBegun = Number(told.slice(0, told.lastIndexOf('\n')).split('\n').at(-1)) > 100;
        if (isBegun && Date.now() - started.atMs > lifeMs) process.kill(child.pid, 'SIGKILL');
      }
      expect(child.signalCode ?? (await child.exited)).not.toBe(0);
      const kept = Number(told.slice(0, told.lastIndexOf('\n')).split('\n').at(-1));
      expect(kept).toBeGreaterThan(100);
      const spool = rig.open(directory, { maxBytes: 1 << 30 });
      expect(spool.status.lastSequence).toBeGreaterThanOrEqual(kept);
      fillSpool(spool, 1);
      const { lastSequence } = spool.status;
      expect((await drainSpool(spool)).flatMap((batch) => batch.records)).toHaveLength(lastSequence);
    }
  });
});
