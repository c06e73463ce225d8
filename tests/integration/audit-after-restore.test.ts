import { afterAll, afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { startShipper } from '../../agent/audit/shipper.ts';
import { sampleRecord } from '../../agent/audit/spool-sample.ts';
import type { Spool } from '../../agent/audit/spool.ts';
import { AccessLog } from '../../server/audit/access-log.ts';
import { OperatorLog } from '../../server/audit/operator-log.ts';
import { restoreBackup, writeBackup } from '../../server/datastore/backup.ts';
import type { Datastore } from '../../server/datastore/datastore.ts';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { readFramed } from '../kit/audit-batches.ts';
import { openTestPglite, silentLog, type TestDatastore } from '../kit/datastore.ts';
import { testAgentId } from '../kit/mesh-data.ts';
import { segmentsIn, SpoolRig } from '../kit/spool-rig.ts';
import { waitUntil } from '../kit/wait.ts';

/** The record of decisions when the server is restored from a backup older than what it had acknowledged. */

const node = testAgentId('one');
/** Waits a hundredth of what is asked. */
const hasty: Clock = { ...systemClock, schedule: (ms, callback) => systemClock.schedule(ms / 100, callback) };
const rig = new SpoolRig();
const opened: TestDatastore[] = [];
const running: Running[] = [];
let server: AccessLog;

async function openEmpty(): Promise<Datastore> {
  const kept = await openTestPglite();
  opened.push(kept);
  return kept.datastore;
}

function logOf(datastore: Datastore): AccessLog {
  return new AccessLog({ datastore, log: silentLog });
}

async function backupOf(datastore: Datastore): Promise<readonly string[]> {
  const lines: string[] = [];
  await writeBackup(datastore, async (line) => void lines.push(line));
  return lines;
}

/** A new, empty database filled from a backup: from now on it is the server's. */
async function restore(lines: readonly string[]): Promise<Datastore> {
  const datastore = await openEmpty();
  await restoreBackup(
    datastore,
    (async function* () {
      yield* lines;
    })(),
  );
  server = logOf(datastore);
  return datastore;
}

function ship(spool: Spool): void {
  const send = async (batch: FramedBatch): Promise<AuditAnswer> =>
    await server.store(node, readFramed(batch));
  running.push(startShipper({ spool, send, clock: hasty, random: () => 0, log: silentLog }));
}

/** Records up to the number `to`, and waits until the server has them. */
async function recordAndShip(spool: Spool, to: number): Promise<void> {
  for (let next = spool.status.lastSequence + 1; next <= to; next++)
    expect(spool.record(sampleRecord(next))).toBe(true);
  await waitUntil('everything is delivered', () => spool.status.depth === 0);
}

async function storedSequences(): Promise<readonly number[]> {
  const { records } = await server.query({ limit: 1000 });
  return records.map(({ sequence }) => sequence).toSorted((a, b) => a - b);
}

async function gapsIn(datastore: Datastore): Promise<readonly unknown[]> {
  const { actions } = await new OperatorLog({ datastore, clock: systemClock }).query();
  return actions.filter(({ action }) => action === 'audit.gap').map(({ detail }) => detail);
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

let original: Datastore;
beforeEach(async () => {
  original = await openEmpty();
  server = logOf(original);
});
afterEach(async () => {
  for (const shipper of running.splice(0)) await shipper.stop();
  await rig.closeAll();
  for (const kept of opened.splice(0)) await kept.dispose();
});
afterAll(() => rig.remove());

describe('a server restored from an older backup', () => {
  test('gets what the spool still holds once more, and each record once', async () => {
    const spool = rig.open(rig.fresh());
    ship(spool);
    await recordAndShip(spool, 20);
    const backup = await backupOf(original);
    await recordAndShip(spool, 40);
    const datastore = await restore(backup);
    await recordAndShip(spool, 41);
    expect(await storedSequences()).toEqual(range(1, 41));
    expect(await gapsIn(datastore)).toEqual([]);
  });

  test('goes on behind what the spool holds no more, and says which records it lacks', async () => {
    const directory = rig.fresh();
    const spool = rig.open(directory, { segmentBytes: 4096, maxBytes: 16_384 });
    ship(spool);
    await recordAndShip(spool, 5);
    const backup = await backupOf(original);
    for (let to = 15; to <= 45; to += 10) await recordAndShip(spool, to);
    expect(segmentsIn(directory)[0]).not.toBe('000000000001.segment');
    const datastore = await restore(backup);
    // Far more than the spool has room for: it is emptied again.
    for (let to = 55; to <= 145; to += 10) await recordAndShip(spool, to);
    const stored = await storedSequences();
    const first = stored[5] ?? 0;
    expect(first).toBeGreaterThan(6);
    expect(first).toBeLessThan(46);
    expect(stored).toEqual([...range(1, 5), ...range(first, 145)]);
    expect(await gapsIn(datastore)).toEqual([{ from: 6, to: first - 1, records: first - 6 }]);
    expect(spool.status.refused).toBe(0);
  });

  test('that never knew the spool begins behind the gap, also when the agent restarted in between', async () => {
    const backup = await backupOf(original);
    const directory = rig.fresh();
    const options = { segmentBytes: 4096 };
    const spool = rig.open(directory, options);
    ship(spool);
    for (let to = 10; to <= 40; to += 10) await recordAndShip(spool, to);
    await running.pop()?.stop();
    await spool.close();
    const datastore = await restore(backup);
    const again = rig.open(directory, options);
    ship(again);
    await recordAndShip(again, 50);
    const stored = await storedSequences();
    const first = stored[0] ?? 0;
    expect(first).toBeGreaterThan(1);
    expect(stored).toEqual(range(first, 50));
    expect(await gapsIn(datastore)).toEqual([{ from: 1, to: first - 1, records: first - 1 }]);
  });
});

test('a spool that was set back behind what the server has keeps its records and says so', async () => {
  const epochs = rig.fresh();
  const spool = rig.open(epochs);
  const { epoch } = spool.status;
  for (let next = 1; next <= 5; next++) spool.record(sampleRecord(next));
  const batch = await spool.readBatch({ records: 100, bytes: 100_000 });
  expect(batch?.count).toBe(5);
  const lines: string[] = [];
  const log = {
    ...silentLog,
    warn: (event: string, fields?: unknown) =>
      void lines.push(`${event} ${String((fields as { error: unknown }).error)}`),
  };
  const send = async (): Promise<AuditAnswer> => ({ epoch, sequence: 9 });
  running.push(startShipper({ spool, send, clock: hasty, random: () => 0, log }));
  await waitUntil('it is said', () => lines.some((line) => line.includes('The server has record 9')));
  expect(spool.status.depth).toBe(5);
});
