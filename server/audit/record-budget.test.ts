import { describe, expect, test } from 'bun:test';
import { failureOf, type PicketError } from '../../shared/errors/errors.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { testAccessRecord } from '../../tests/kit/audit-batches.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId } from '../../tests/kit/mesh-data.ts';
import type { CheckedRecord } from './audit-chain.ts';
import { RecordBudget, type RecordRates } from './record-budget.ts';

const [noisy, quiet] = [testAgentId('noisy'), testAgentId('quiet')];

/** `count` records of so many bytes. */
function records(decision: 'allow' | 'deny', count: number, bytes = 400): readonly CheckedRecord[] {
  const record = testAccessRecord({ decision });
  return Array.from({ length: count }, (_, i) => ({
    sequence: i,
    hash: '',
    text: 'x'.repeat(bytes),
    record,
  }));
}

class Rig {
  readonly clock = new FakeClock();
  readonly lines: string[] = [];
  readonly budget: RecordBudget;

  constructor(rates: Partial<RecordRates> = {}) {
    const log = createLog({ level: 'warn', nowMs: () => 0, write: (line) => void this.lines.push(line) });
    const { clock } = this;
    this.budget = new RecordBudget({ rates: { denials: 100, records: undefined, ...rates }, clock, log });
  }

  async refusal(host = noisy): Promise<PicketError | undefined> {
    return await failureOf((async () => this.budget.requireRoom(host))());
  }
}

describe('RecordBudget', () => {
  test('a host may have a minute’s denials stored at once, then so many a second, whatever the size of its batches', async () => {
    const rig = new Rig();
    let stored = 0;
    for (let second = 0; second < 600; second += 1) {
      for (; (await rig.refusal()) === undefined; stored += 700)
        rig.budget.charge(noisy, records('deny', 700));
      rig.clock.advance(1000);
    }
    expect(stored).toBeGreaterThanOrEqual(60 * 100 + 599 * 100);
    expect(stored).toBeLessThanOrEqual(60 * 100 + 600 * 100 + 700);
  });

  test('it is told when it may go on, and may then', async () => {
    const rig = new Rig();
    rig.budget.charge(noisy, records('deny', 6000));
    expect(await rig.refusal()).toBeUndefined();
    rig.budget.charge(noisy, records('deny', 250));
    expect(await rig.refusal()).toMatchObject({
      code: 'resource_exhausted',
      reason: 'audit_held_back',
      details: { retry_after_ms: 2500 },
    });
    rig.clock.advance(2499);
    expect(await rig.refusal()).toMatchObject({ details: { retry_after_ms: 1 } });
    rig.clock.advance(1);
    expect(await rig.refusal()).toBeUndefined();
  });

  test('other hosts are not told to wait', async () => {
    const rig = new Rig();
    rig.budget.charge(noisy, records('deny', 10_000));
    rig.budget.charge(quiet, records('deny', 100));
    expect(await rig.refusal()).toBeDefined();
    expect(await rig.refusal(quiet)).toBeUndefined();
  });

  test('what is allowed is not counted among denials, and has a bound of its own where one is set', async () => {
    const free = new Rig();
    free.budget.charge(noisy, records('allow', 1_000_000));
    expect(await free.refusal()).toBeUndefined();
    const bounded = new Rig({ records: 1000 });
    bounded.budget.charge(noisy, records('allow', 61_000));
    expect(await bounded.refusal()).toMatchObject({ details: { retry_after_ms: 1000 } });
    bounded.budget.charge(noisy, records('deny', 6500));
    expect(await bounded.refusal()).toMatchObject({ details: { retry_after_ms: 7500 } });
    expect(bounded.budget.refused).toEqual({ denials: 0, records: 2 });
  });

  test('a record counts once for each KiB that it begins', async () => {
    const rig = new Rig();
    rig.budget.charge(noisy, records('deny', 400, 16 * 1024));
    expect(await rig.refusal()).toMatchObject({ details: { retry_after_ms: 4000 } });
  });

  test('nothing is bounded where no rate is set', async () => {
    const rig = new Rig({ denials: undefined });
    rig.budget.charge(noisy, records('deny', 100_000));
    rig.clock.advance(1);
    expect(await rig.refusal()).toBeUndefined();
  });

  test('a host is held back, and said to be so once, until it has not been refused for a minute', async () => {
    const rig = new Rig();
    for (let second = 0; second < 200; second += 1) {
      if ((await rig.refusal()) === undefined) rig.budget.charge(noisy, records('deny', 1000));
      rig.clock.advance(1000);
    }
    expect(rig.budget.heldBack).toEqual([{ nodeId: noisy, why: 'denials' }]);
    expect(rig.lines.map((line): unknown => JSON.parse(line))).toMatchObject([
      { event: 'audit_held_back', node: noisy, why: 'denials', per_second: 100 },
    ]);
    rig.clock.advance(80_000);
    expect(await rig.refusal()).toBeUndefined();
    expect(rig.budget.heldBack).toEqual([]);
  });

  test('however many hosts come, one that owes is not forgotten', async () => {
    const rig = new Rig();
    rig.budget.charge(noisy, records('deny', 1_000_000));
    for (let i = 0; i < 5000; i += 1) {
      rig.budget.charge(testAgentId(`host-${i}`), records('deny', 1));
      rig.clock.advance(10);
    }
    expect(await rig.refusal()).toBeDefined();
  });
});
