import { afterEach, describe, expect, test } from 'bun:test';
import type { AgentStatus } from '../../shared/protocol/sync.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { startStatusReports, type StatusReports } from './status-reports.ts';

const STATUS: AgentStatus = {
  agentVersion: '1',
  cursor: 0,
  policySequence: 0,
  addresses: [],
};

let reports: StatusReports | undefined;
afterEach(async () => await reports?.stop());

function start() {
  const clock = new FakeClock();
  const sent: AgentStatus[] = [];
  const state = { status: STATUS, isDown: false, asked: 0 };
  reports = startStatusReports({
    collect: () => {
      state.asked += 1;
      return state.status;
    },
    send: async (status) => {
      if (state.isDown) throw new Error('The server is away');
      sent.push(status);
    },
    clock,
    log: silentLog,
  });
  return { clock, sent, state, reports };
}

/** Waits until the reporter sleeps again after it looked for the `count`th time. */
async function looked(run: ReturnType<typeof start>, count: number): Promise<void> {
  await waitUntil(`it looked ${count} times`, () => run.state.asked >= count && run.clock.pending > 0);
}

describe('startStatusReports()', () => {
  test('reports at once and then every minute', async () => {
    const run = start();
    await looked(run, 1);
    expect(run.sent).toEqual([STATUS]);
    run.clock.advance(59_999);
    expect(run.state.asked).toBe(1);
    run.clock.advance(1);
    await looked(run, 2);
    expect(run.sent).toEqual([STATUS, STATUS]);
  });

  test('reports soon after a change, several in one', async () => {
    const run = start();
    await looked(run, 1);
    run.state.status = { ...STATUS, policySequence: 2 };
    for (let i = 0; i < 10; i++) run.reports.changed();
    run.clock.advance(1000);
    await looked(run, 2);
    expect(run.sent.map(({ policySequence }) => policySequence)).toEqual([0, 2]);
  });

  test('says nothing where nothing but the cursor changed', async () => {
    const run = start();
    await looked(run, 1);
    run.state.status = { ...STATUS, cursor: 9 };
    run.reports.changed();
    run.clock.advance(1000);
    await looked(run, 2);
    expect(run.sent).toEqual([STATUS]);
    run.clock.advance(60_000);
    await looked(run, 3);
    expect(run.sent.at(-1)?.cursor).toBe(9);
  });

  test('a report that fails is made up for by the next', async () => {
    const run = start();
    await looked(run, 1);
    run.state.isDown = true;
    run.clock.advance(60_000);
    await looked(run, 2);
    run.state.isDown = false;
    run.clock.advance(60_000);
    await looked(run, 3);
    expect(run.sent.length).toBe(2);
  });
});
