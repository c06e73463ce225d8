import { afterAll, afterEach, describe, expect, test } from 'bun:test';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AuditBatch } from '../../shared/protocol/audit.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { readFramed } from '../../tests/kit/audit-batches.ts';
import { SpoolRig } from '../../tests/kit/spool-rig.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { sampleRecord } from '../audit/spool-sample.ts';
import { findLeftOverLanes, laneDirectory, shipLeftOverLanes } from './worker-lanes.ts';

const rig = new SpoolRig();
const log = createLog({ level: 'error', nowMs: Date.now, write: () => undefined });

afterEach(async () => await rig.closeAll());
afterAll(() => rig.remove());

async function leaveRecords(directory: string, count: number): Promise<void> {
  const spool = rig.open(directory);
  for (let i = 0; i < count; i++) spool.record(sampleRecord(i));
  await spool.close();
}

describe('lanes of the spool', () => {
  test('the first is the spool of an agent without workers', () => {
    expect(laneDirectory('/a/audit', 0)).toBe('/a/audit');
    expect(laneDirectory('/a/audit', 3)).toBe('/a/audit/lane-3');
  });

  test('findLeftOverLanes() finds those of workers that there are no more, and nothing else', () => {
    const directory = rig.fresh();
    for (const name of ['lane-1', 'lane-2', 'lane-12', 'lane-x', 'lane-2.damaged', 'lane--3'])
      mkdirSync(join(directory, name), { recursive: true });
    const names = findLeftOverLanes(directory, 2).map((path) => path.slice(directory.length + 1));
    expect(names.toSorted()).toEqual(['lane-12', 'lane-2']);
    expect(findLeftOverLanes(join(directory, 'none'), 1)).toEqual([]);
  });

  test('shipLeftOverLanes() ships what is left and removes only what the server has', async () => {
    const directory = rig.fresh();
    await leaveRecords(join(directory, 'lane-1'), 3);
    await leaveRecords(join(directory, 'lane-2'), 5);
    const lost = laneDirectory(directory, 2);
    const sent: AuditBatch[] = [];
    let lostEpoch = '';
    const shipping = shipLeftOverLanes({
      directory,
      lanes: 1,
      maxBytes: 1 << 24,
      send: async (framed) => {
        const batch = readFramed(framed);
        sent.push(batch);
        if (batch.records.length === 5) {
          lostEpoch = batch.epoch;
          throw new Error('out of reach');
        }
        return await Promise.resolve({ epoch: batch.epoch, sequence: batch.records.at(-1)?.sequence ?? 0 });
      },
      clock: systemClock,
      random: () => 0,
      log,
    });
    await waitUntil('one lane is gone', () => !existsSync(join(directory, 'lane-1')) && lostEpoch !== '');
    await shipping.stop();
    expect(existsSync(lost)).toBe(true);
    expect(sent.find(({ records }) => records.length === 3)).toBeDefined();
    // What was not taken is all there for the next start.
    expect(rig.open(lost).status).toMatchObject({ depth: 5, epoch: lostEpoch });
  });

  test('shipLeftOverLanes() removes a lane in which nothing is left', async () => {
    const directory = rig.fresh();
    await leaveRecords(join(directory, 'lane-1'), 0);
    const send = async (): Promise<never> => await Promise.reject(new Error('nothing is to be sent'));
    const shared = { lanes: 1, maxBytes: 1 << 24, clock: systemClock, random: () => 0, log };
    const shipping = shipLeftOverLanes({ ...shared, directory, send });
    await waitUntil('it is gone', () => !existsSync(join(directory, 'lane-1')));
    await shipping.stop();
  });
});
