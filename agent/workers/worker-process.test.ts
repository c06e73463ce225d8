import { afterEach, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { FramedBatch } from '../../shared/protocol/audit.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { Beginning, WorkerConfig, WorkerReport } from './worker-messages.ts';
import { WorkerProcess, type WorkerProcessOptions } from './worker-process.ts';

const BEGINNING: Beginning = {
  kind: 'begin',
  worker: 1,
  agentPid: process.pid,
  config: {} as WorkerConfig,
  sockets: [],
  knowledge: null,
  policy: null,
  isAside: false,
};
const CHANGE = { isTold: true, nodeId: null } as const;

let lines: string[] = [];
const started: WorkerProcess[] = [];

afterEach(() => {
  for (const worker of started.splice(0)) worker.kill();
  lines = [];
});

interface Rig {
  readonly worker: WorkerProcess;
  readonly ready: Promise<void>;
  readonly gone: Promise<string>;
  readonly reports: WorkerReport[];
  readonly failures: string[];
}

function start(way: string, change: Partial<WorkerProcessOptions> = {}): Rig {
  const ready = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<string>();
  const reports: WorkerReport[] = [];
  const failures: string[] = [];
  const worker = new WorkerProcess({
    command: [process.execPath, join(import.meta.dirname, 'fixtures/odd-worker.ts'), way],
    environment: {},
    descriptors: [],
    beginning: BEGINNING,
    send: async ({ epoch }) => await Promise.resolve({ epoch, sequence: 41 }),
    onPrepared: () => worker.letListen(),
    onReady: () => ready.resolve(),
    onReport: (report) => void reports.push(report),
    onNamespaceFailed: (...failure) => void failures.push(failure.join(' ')),
    onGone: (how) => gone.resolve(how),
    clock: systemClock,
    log: createLog({ level: 'debug', nowMs: Date.now, write: (line) => void lines.push(line) }),
    ...change,
  });
  started.push(worker);
  return { worker, ready: ready.promise, gone: gone.promise, reports, failures };
}

describe('WorkerProcess', () => {
  test('tells what it is told in its order: a report knows of all that came before it', async () => {
    const { worker, ready, reports } = start('good');
    worker.tell({ kind: 'know', change: CHANGE });
    worker.tell({ kind: 'know', change: CHANGE });
    await ready;
    await worker.report();
    worker.tell({ kind: 'know', change: CHANGE });
    await worker.report();
    expect(reports.map(({ connections }) => connections)).toEqual([2, 3]);
  });

  test('hears which namespace a worker cannot serve, and lets it go on', async () => {
    const { worker, ready, reports, failures } = start('unable');
    await ready;
    const declared = { name: 'pods/one', label: 'pods', path: '', addresses: [], routedIn: [] };
    worker.give({ kind: 'namespace', cookie: '7', declared }, { key: '7', descriptors: [] });
    await worker.report();
    expect([failures, reports.length]).toEqual([['7 there is no room'], 1]);
  });

  test('kills a worker that says what has no form, and believes nothing of it', async () => {
    const { gone, reports } = start('nonsense');
    expect(await gone).toBe('signal SIGKILL');
    expect(reports).toEqual([]);
    expect(lines.join()).toContain('worker_not_understood');
  });

  test('kills a worker that says nothing for too long, and keeps nobody waiting for it', async () => {
    const clock = new FakeClock();
    const { worker, ready, gone } = start('silent', { clock });
    await ready;
    const asked = worker.report();
    clock.advance(14_000);
    expect(lines.join()).not.toContain('worker_silent');
    clock.advance(1000);
    expect(await gone).toBe('signal SIGKILL');
    await asked;
    await worker.report();
    expect(lines.join()).toContain('worker_silent');
  });

  test('ends one that is told to, and kills one that does not end', async () => {
    const good = start('good');
    await good.ready;
    await good.worker.stop();
    expect(await good.gone).toBe('exit code 0');
    const clock = new FakeClock();
    const stubborn = start('stubborn', { clock });
    await stubborn.ready;
    const stopped = stubborn.worker.stop();
    clock.advance(15_000);
    await stopped;
    expect(await stubborn.gone).toBe('signal SIGKILL');
  });

  test('has a worker write elsewhere and take nothing more, and waits for neither where it has ended', async () => {
    const good = start('good');
    await good.ready;
    expect(await good.worker.moveSpool(true)).toBe(true);
    expect(await good.worker.moveSpool(false)).toBe(true);
    await good.worker.drain(1000);
    const stuck = start('stuck');
    await stuck.ready;
    expect(await stuck.worker.moveSpool(true)).toBe(false);
    const late = start('late');
    await late.ready;
    // The first answer comes after the second question, and is none to that.
    expect(await Promise.all([late.worker.moveSpool(true), late.worker.moveSpool(false)])).toEqual([
      true,
      true,
    ]);
    const busy = start('busy');
    await busy.ready;
    const drained = busy.worker.drain(1000);
    busy.worker.kill();
    await drained;
    expect(await busy.worker.moveSpool(true)).toBe(true);
  });

  test('sends its records to the server, and tells it the answer or why there is none', async () => {
    const sent: FramedBatch[] = [];
    const good = start('shipping', {
      send: async (batch) => {
        sent.push(batch);
        return await Promise.resolve({ epoch: batch.epoch, sequence: 41 });
      },
    });
    await waitUntil('it tells the answer', () => good.reports.length > 0);
    expect(good.reports[0]?.spool).toMatchObject({ epoch: 'none', lastSequence: 41 });
    const frames = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    expect(sent).toEqual([{ epoch: '0'.repeat(32), gap: { after: 1, hash: '1'.repeat(64) }, frames }]);
    const refused = start('shipping', {
      send: async () => await Promise.reject(new PicketError('unavailable', 'server_away', 'away')),
    });
    await waitUntil('it tells the refusal', () => refused.reports.length > 0);
    expect(refused.reports[0]?.spool.epoch).toBe('server_away');
  });
});
