import { afterEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { readFramed } from '../../tests/kit/audit-batches.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { startShipper } from './shipper.ts';
import { sampleRecord } from './spool-sample.ts';
import { Spool } from './spool.ts';

const log = createLog({ level: 'error', nowMs: Date.now, write: () => undefined });
/** Waits a hundredth of what is asked. */
const hasty: Clock = { ...systemClock, schedule: (ms, callback) => systemClock.schedule(ms / 100, callback) };
const directories: string[] = [];

afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function openSpool(directory?: string): Spool {
  const path = directory ?? join(mkdtempSync(join(tmpdir(), 'picket-shipper-')), 'spool');
  if (directory === undefined) directories.push(join(path, '..'));
  return new Spool({
    directory: path,
    maxBytes: 1 << 24,
    durability: 'group',
    groupMs: 5,
    clock: systemClock,
    log,
  });
}

/** A server that stores each record once and can be out of reach. */
class StoringServer {
  isReachable = true;
  readonly stored: number[] = [];
  calls = 0;

  async send(batch: FramedBatch): Promise<AuditAnswer> {
    this.calls++;
    if (!this.isReachable) throw new Error('out of reach');
    for (const { sequence } of readFramed(batch).records)
      if (sequence === this.stored.length + 1) this.stored.push(sequence);
    return { epoch: batch.epoch, sequence: this.stored.length };
  }
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe('startShipper()', () => {
  test('ships what is recorded, each record once, and empties the spool', async () => {
    const spool = openSpool();
    const server = new StoringServer();
    const shipper = startShipper({
      spool,
      send: async (b) => await server.send(b),
      clock: hasty,
      random: () => 0,
      log,
    });
    for (let index = 1; index <= 2500; index++) spool.record(sampleRecord(index));
    await waitUntil('the first are stored', () => server.stored.length === 2500);
    for (let index = 2501; index <= 2600; index++) spool.record(sampleRecord(index));
    await waitUntil(
      'all are stored, and none is kept',
      () => spool.status.depth === 0 && server.stored.length === 2600,
    );
    expect(server.stored).toEqual(upTo(2600));
    await shipper.stop();
    await spool.close();
  });

  test('keeps everything through an outage and a restart', async () => {
    const spool = openSpool();
    const server = new StoringServer();
    const options = {
      send: async (b: FramedBatch) => await server.send(b),
      clock: hasty,
      random: () => 0,
      log,
    };
    const shipper = startShipper({ spool, ...options });
    for (let index = 1; index <= 50; index++) spool.record(sampleRecord(index));
    await waitUntil('they are stored', () => server.stored.length === 50);
    server.isReachable = false;
    const { calls } = server;
    for (let index = 51; index <= 100; index++) spool.record(sampleRecord(index));
    await waitUntil('it has tried several times', () => server.calls > calls + 2);
    expect(spool.status.depth).toBe(50);
    await shipper.stop();
    await spool.close();
    const again = openSpool(join(directories[0]!, 'spool'));
    const next = startShipper({ spool: again, ...options });
    server.isReachable = true;
    await waitUntil('none is kept', () => again.status.depth === 0);
    expect(server.stored).toEqual(upTo(100));
    await next.stop();
    await again.close();
  });

  test('ships again what the server lost', async () => {
    const spool = openSpool();
    const server = new StoringServer();
    const shipper = startShipper({
      spool,
      send: async (b) => await server.send(b),
      clock: hasty,
      random: () => 0,
      log,
    });
    for (let index = 1; index <= 40; index++) spool.record(sampleRecord(index));
    await waitUntil('they are stored', () => server.stored.length === 40);
    server.stored.length = 30;
    spool.record(sampleRecord(41));
    await waitUntil('the next is stored too', () => server.stored.length === 41);
    expect(server.stored).toEqual(upTo(41));
    await shipper.stop();
    await spool.close();
  });

  test('waits as long as the server says, keeps everything, and says so until nothing waits any more', async () => {
    const spool = openSpool();
    const server = new StoringServer();
    const clock = new FakeClock();
    const events: string[] = [];
    const write = (line: string): void => {
      const { event } = JSON.parse(line) as { event: string };
      if (event.startsWith('audit_')) events.push(event);
    };
    let mayStore = 0;
    const shipper = startShipper({
      spool,
      send: async (batch) => {
        if (mayStore-- > 0) return await server.send(batch);
        server.calls++;
        const details = { retry_after_ms: 45_000 };
        throw new PicketError('resource_exhausted', 'audit_held_back', 'More than 10', { details });
      },
      clock,
      random: () => 0,
      log: createLog({ level: 'info', nowMs: Date.now, write }),
    });
    for (let index = 1; index <= 2500; index++) spool.record(sampleRecord(index));
    await waitUntil('the server has refused', () => spool.status.isHeldBack);
    for (const [stored, calls] of [
      [1000, 3],
      [2000, 5],
    ] as const) {
      mayStore = 1;
      clock.advance(44_999);
      expect(server.stored.length).toBe(stored - 1000);
      clock.advance(1);
      await waitUntil('it has sent one batch, and been refused', () => server.calls === calls);
      expect([server.stored.length, spool.status.isHeldBack]).toEqual([stored, true]);
    }
    mayStore = 1;
    await waitUntil('it waits again', () => clock.pending > 0);
    clock.advance(45_000);
    await waitUntil('it is let go', () => !spool.status.isHeldBack);
    expect(server.stored).toEqual(upTo(2500));
    expect(events).toEqual(['audit_held_back', 'audit_held_back_no_more']);
    await shipper.stop();
    await spool.close();
  });

  test('what comes soon after a batch waits a little, and goes together', async () => {
    const spool = openSpool();
    const server = new StoringServer();
    const clock = new FakeClock();
    const shipper = startShipper({
      spool,
      send: async (b) => await server.send(b),
      clock,
      random: () => 0,
      log,
    });
    spool.record(sampleRecord(1));
    await waitUntil('the first is stored', () => server.stored.length === 1);
    for (let index = 2; index <= 9; index++) {
      const ready = Promise.withResolvers<void>();
      const unwatch = spool.watch(() => ready.resolve());
      spool.record(sampleRecord(index));
      await ready.promise.finally(unwatch);
    }
    expect(server.calls).toBe(1);
    clock.advance(100);
    await waitUntil('all are stored', () => server.stored.length === 9);
    expect(server.calls).toBe(2);
    await shipper.stop();
    await spool.close();
  });
});
