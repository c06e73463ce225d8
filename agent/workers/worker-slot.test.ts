import { afterEach, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { systemClock, type Clock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { WorkerConfig, WorkerReport } from './worker-messages.ts';
import { WorkerProcess } from './worker-process.ts';
import { MAX_START_MS, WorkerSlot } from './worker-slot.ts';

const log = createLog({ level: 'error', nowMs: Date.now, write: () => undefined });
const slots: WorkerSlot[] = [];

afterEach(async () => {
  for (const slot of slots.splice(0)) await slot.stop();
});

/** A place whose workers are of that kind, one after another; the last one stays. */
function openSlot(...ways: readonly string[]): ReturnType<typeof openTimedSlot> {
  return openTimedSlot(systemClock, ...ways);
}

function openTimedSlot(
  clock: Clock,
  ...ways: readonly string[]
): {
  readonly slot: WorkerSlot;
  readonly lasts: (WorkerReport | undefined)[];
} {
  const lasts: (WorkerReport | undefined)[] = [];
  let launches = 0;
  const slot = new WorkerSlot({
    worker: 1,
    start: (listeners) =>
      new WorkerProcess({
        command: [
          process.execPath,
          join(import.meta.dirname, 'fixtures/odd-worker.ts'),
          ways[Math.min(launches++, ways.length - 1)] ?? 'good',
        ],
        environment: {},
        descriptors: [],
        beginning: {
          kind: 'begin',
          worker: 1,
          agentPid: process.pid,
          config: {} as WorkerConfig,
          sockets: [],
          knowledge: null,
          policy: null,
          isAside: false,
        },
        send: async ({ epoch }) => await Promise.resolve({ epoch, sequence: 1 }),
        ...listeners,
        onNamespaceFailed: () => undefined,
        clock: systemClock,
        log,
      }),
    onReport: () => undefined,
    onGone: (last) => void lasts.push(last),
    clock,
    random: () => 0,
    log,
  });
  slots.push(slot);
  return { slot, lasts };
}

async function begin(slot: WorkerSlot): Promise<void> {
  await slot.prepare();
  await slot.listen();
}

describe('WorkerSlot', () => {
  test('starts a worker again that ends, and says so', async () => {
    const { slot, lasts } = openSlot('good');
    await begin(slot);
    await slot.refresh();
    const { pid } = slot.status;
    expect(slot.status).toMatchObject({ isReady: true, restarts: 0, report: { descriptorsOpen: 9 } });
    process.kill(pid ?? 0, 'SIGKILL');
    await waitUntil('there is another', () => slot.status.isReady && slot.status.pid !== pid);
    expect(slot.status.restarts).toBe(1);
    expect(lasts).toHaveLength(1);
    expect(lasts[0]?.descriptorsOpen).toBe(9);
  });

  test('goes on with one that dies again and again', async () => {
    const { slot } = openSlot('dying', 'early', 'dying', 'good');
    await begin(slot);
    await waitUntil('one stays', () => slot.status.restarts === 3 && slot.status.isReady);
  });

  test('does not start where the first one ends before it takes connections', async () => {
    const { slot } = openSlot('early');
    const failure = await begin(slot).catch((error: unknown) => error);
    expect(String(failure)).toContain('exit code 7');
  });

  test('ends a worker that hangs while it starts again, and starts another', async () => {
    const deadlines: (() => void)[] = [];
    const clock: Clock = {
      ...systemClock,
      schedule: (ms, callback) => {
        if (ms !== MAX_START_MS) return systemClock.schedule(ms, callback);
        const at = deadlines.push(callback) - 1;
        return () => (deadlines[at] = () => undefined);
      },
    };
    const { slot } = openTimedSlot(clock, 'good', 'hanging', 'good');
    await begin(slot);
    deadlines[0]?.();
    expect(slot.status).toMatchObject({ isReady: true, restarts: 0 });
    process.kill(slot.status.pid ?? 0, 'SIGKILL');
    await waitUntil('the second one is there', () => deadlines.length === 2);
    expect(slot.status.isReady).toBe(false);
    deadlines[1]?.();
    await waitUntil('the third one takes connections', () => slot.status.isReady);
    expect(slot.status.restarts).toBe(2);
  });

  test('takes no connections before it may, and those that follow it at once', async () => {
    const { slot } = openSlot('good');
    await slot.prepare();
    expect(slot.status).toMatchObject({ isReady: false, restarts: 0 });
    await slot.listen();
    process.kill(slot.status.pid ?? 0, 'SIGKILL');
    await waitUntil('the next one does', () => slot.status.isReady && slot.status.restarts === 1);
  });

  test('takes connections though the one that was prepared has ended before it might', async () => {
    const { slot, lasts } = openSlot('good');
    await slot.prepare();
    process.kill(slot.status.pid ?? 0, 'SIGKILL');
    await waitUntil('it has ended', () => lasts.length === 1);
    await slot.listen();
    expect(slot.status).toMatchObject({ isReady: true, restarts: 1 });
  });

  test('has nobody follow a worker that ends while it drains', async () => {
    const { slot, lasts } = openSlot('busy', 'good');
    await begin(slot);
    const drained = slot.drain(60_000);
    process.kill(slot.status.pid ?? 0, 'SIGKILL');
    await drained;
    await waitUntil('it has ended', () => lasts.length === 1);
    expect(slot.status).toMatchObject({ pid: undefined, isReady: false, restarts: 0 });
    await slot.drain(60_000);
  });

  test('starts nobody once it is to take nothing more', async () => {
    const { slot } = openSlot('good');
    await slot.drain(60_000);
    expect(String(await slot.listen().catch((error: unknown) => error))).toContain('takes nothing any more');
    expect(slot.status).toMatchObject({ pid: undefined, isReady: false });
  });

  test('does not wait for a worker that is still starting to move its records: another is started', async () => {
    const { slot } = openSlot('good', 'hanging', 'good');
    await begin(slot);
    process.kill(slot.status.pid ?? 0, 'SIGKILL');
    await waitUntil(
      'the second one starts',
      () => slot.status.restarts === 1 && slot.status.pid !== undefined,
    );
    expect(await slot.moveSpool(true)).toBe(true);
    await waitUntil('the third one takes connections', () => slot.status.isReady);
    expect(slot.status.restarts).toBe(2);
  });

  test('has a worker that cannot go back to its lane of the spool asked again', async () => {
    const due: (() => void)[] = [];
    const clock: Clock = { ...systemClock, schedule: (_, callback) => (due.push(callback), () => undefined) };
    const { slot } = openTimedSlot(clock, 'stuck-once');
    await begin(slot);
    const pending = due.length;
    expect(await slot.moveSpool(false)).toBe(false);
    expect(due.length).toBe(pending + 1);
    due.at(-1)?.();
    await slot.refresh();
    expect(slot.status.report?.descriptorsRefused).toBe(2);
    expect(due.length).toBe(pending + 1);
  });

  test('asks once more for all who ask while a question is under way', async () => {
    const { slot } = openSlot('good');
    await begin(slot);
    const first = slot.refresh();
    slot.tell({ kind: 'know', change: { isTold: true, nodeId: null } });
    await Promise.all([first, slot.refresh(), slot.refresh()]);
    expect(slot.status.report?.connections).toBe(1);
  });

  test('keeps nobody waiting whose worker is away', async () => {
    const { slot } = openSlot('good', 'silent');
    await begin(slot);
    await slot.stop();
    await slot.refresh();
    expect(slot.status).toMatchObject({ pid: undefined, isReady: false, restarts: 0 });
  });
});
