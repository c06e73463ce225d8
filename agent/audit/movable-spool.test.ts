import { afterEach, describe, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { readFramed } from '../../tests/kit/audit-batches.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { startLeftOverSpools } from './left-over-spools.ts';
import { MovableSpool } from './movable-spool.ts';
import { asideFolder, listAsideSpools } from './spool-place.ts';
import { sampleRecord } from './spool-sample.ts';

const log = createLog({ level: 'error', nowMs: Date.now, write: () => undefined });
/** Waits a hundredth of what is asked. */
const hasty: Clock = { ...systemClock, schedule: (ms, callback) => systemClock.schedule(ms / 100, callback) };
const roots: string[] = [];

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

function folder(): string {
  const root = mkdtempSync(join(tmpdir(), 'picket-movable-'));
  roots.push(root);
  return join(root, 'audit');
}

function optionsOf(directory: string) {
  return { directory, maxBytes: 1 << 24, durability: 'sync', clock: systemClock, log } as const;
}

function open(directory: string): MovableSpool {
  return new MovableSpool({ ...optionsOf(directory), asideFolder: asideFolder(directory) });
}

async function texts(spool: MovableSpool): Promise<readonly unknown[]> {
  const batch = await spool.current.readBatch({ records: 100, bytes: 1 << 20 });
  if (batch === undefined) return [];
  return readFramed(batch).records.map(({ record }) => JSON.parse(record) as unknown);
}

function lastSequenceOf(batch: FramedBatch): number {
  return readFramed(batch).records.at(-1)?.sequence ?? 0;
}

describe('MovableSpool', () => {
  test('no two write in one place', async () => {
    const directory = folder();
    const first = open(directory);
    expect(reasonOf(() => open(directory))).toBe('spool_in_use');
    await first.close();
    await open(directory).close();
  });

  test('moves aside without a record lost, and leaves its place to another', async () => {
    const directory = folder();
    const old = open(directory);
    old.record(sampleRecord(1));
    const epoch = old.status.epoch;
    await old.moveAside();
    expect(old.record(sampleRecord(2))).toBe(true);
    expect(old.status.epoch).not.toBe(epoch);
    const next = open(directory);
    next.record(sampleRecord(3));
    expect(next.status).toMatchObject({ epoch, lastSequence: 2 });
    expect(await texts(next)).toEqual([sampleRecord(1), sampleRecord(3)]);
    expect(await texts(old)).toEqual([sampleRecord(2)]);
    await next.close();
    await old.close();
  });

  test('moves back, goes on where it was, and leaves what it wrote meanwhile to be shipped', async () => {
    const directory = folder();
    const spool = open(directory);
    spool.record(sampleRecord(1));
    const { epoch } = spool.status;
    await spool.moveAside();
    spool.record(sampleRecord(2));
    await spool.moveBack();
    spool.record(sampleRecord(3));
    expect(spool.status).toMatchObject({ epoch, lastSequence: 2 });
    expect(listAsideSpools(directory)).toHaveLength(1);
    await spool.close();
  });

  test('stays where it is when the place is taken', async () => {
    const directory = folder();
    const old = open(directory);
    await old.moveAside();
    const next = open(directory);
    expect(await refusalOf(old.moveBack())).toMatchObject({ reason: 'spool_in_use' });
    expect(old.record(sampleRecord(1))).toBe(true);
    await next.close();
    await old.close();
  });

  test('leaves nothing behind that the server has', async () => {
    const directory = folder();
    const spool = open(directory);
    await spool.moveAside();
    spool.record(sampleRecord(1));
    spool.current.acknowledge(spool.status.epoch, 1);
    const [aside = ''] = listAsideSpools(directory);
    await spool.close();
    expect(existsSync(aside)).toBe(false);
  });
});

describe('startLeftOverSpools()', () => {
  test('ships what an agent that is gone has left, and touches nothing of one that still writes', async () => {
    const directory = folder();
    const gone = open(directory);
    await gone.moveAside();
    for (let i = 1; i <= 5; i++) gone.record(sampleRecord(i));
    await gone.close();
    const draining = open(directory);
    await draining.moveAside();
    draining.record(sampleRecord(9));
    const stored = new Map<string, number>();
    const send = (batch: FramedBatch): Promise<AuditAnswer> => {
      const sequence = lastSequenceOf(batch);
      stored.set(batch.epoch, sequence);
      return Promise.resolve({ epoch: batch.epoch, sequence });
    };
    const leftOver = startLeftOverSpools({ ...optionsOf(directory), clock: hasty, send, random: () => 0 });
    await waitUntil('the left-over place is gone', () => listAsideSpools(directory).length === 1);
    expect([...stored.values()]).toEqual([5]);
    await draining.close();
    await waitUntil('the other is shipped too', () => listAsideSpools(directory).length === 0);
    expect([...stored.values()]).toEqual([5, 1]);
    await leftOver.stop();
  });

  test('goes on with the next one where the server never takes the first, and comes back to it', async () => {
    const directory = folder();
    const epochs: string[] = [];
    for (let agent = 1; agent <= 3; agent++) {
      const gone = open(directory);
      await gone.moveAside();
      gone.record(sampleRecord(agent));
      epochs.push(gone.status.epoch);
      await gone.close();
    }
    let refused: string | undefined;
    let isForgiven = false;
    const send = async (batch: FramedBatch): Promise<AuditAnswer> => {
      refused ??= batch.epoch;
      if (batch.epoch === refused && !isForgiven) throw new Error('no such node');
      return await Promise.resolve({ epoch: batch.epoch, sequence: lastSequenceOf(batch) });
    };
    const shipping = startLeftOverSpools({
      ...optionsOf(directory),
      clock: hasty,
      send,
      random: Math.random,
    });
    try {
      await waitUntil('the others are shipped', () => listAsideSpools(directory).length === 1);
      expect(epochs).toContain(refused ?? '');
      isForgiven = true;
      await waitUntil('that one too', () => listAsideSpools(directory).length === 0);
    } finally {
      await shipping.stop();
    }
  });
});
