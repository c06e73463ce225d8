import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { testAccessRecord, testSpool } from '../../tests/kit/audit-batches.ts';
import { openTestPglite, silentLog, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId } from '../../tests/kit/mesh-data.ts';
import type { AuditBatch } from '../../shared/protocol/audit.ts';
import { AccessLog } from './access-log.ts';
import { RecordBudget } from './record-budget.ts';
import { RecordIntake } from './record-intake.ts';

const [noisy, quiet] = [testAgentId('noisy'), testAgentId('quiet')];
const { signal } = new AbortController();

let kept: TestDatastore;
let accessLog: AccessLog;
let intake: RecordIntake;
let lastEpoch = 0;
beforeAll(async () => {
  kept = await openTestPglite();
  accessLog = new AccessLog({ datastore: kept.datastore, log: silentLog });
  const rates = { denials: 10, records: undefined };
  const budget = new RecordBudget({ rates, clock: new FakeClock(), log: silentLog });
  intake = new RecordIntake({ accessLog, budget });
});
afterAll(async () => await kept.dispose());

/** So many records of a spool of their own. */
function batch(decision: 'allow' | 'deny', count: number, id = ''): AuditBatch {
  const epoch = (++lastEpoch).toString(16).padStart(32, '0');
  const text = JSON.stringify(testAccessRecord({ decision, decision_id: id }));
  return { epoch, records: testSpool(Array.from({ length: count }, () => text)) };
}

describe('RecordIntake', () => {
  test('store() takes the batches of one host in turn, and those of others meanwhile', async () => {
    const done: string[] = [];
    const store = async (host: typeof noisy, name: string): Promise<void> => {
      await intake.store(host, batch('allow', 200), signal);
      done.push(name);
    };
    const many = Array.from({ length: 8 }, async (_, i) => await store(noisy, `noisy ${i}`));
    await Promise.all([...many, store(quiet, 'quiet')]);
    expect(done.indexOf('quiet')).toBeLessThan(3);
    expect(done.filter((name) => name !== 'quiet')).toEqual(
      Array.from({ length: 8 }, (_, i) => `noisy ${i}`),
    );
  });

  test('store() refuses what is beyond the budget of a host, counts nothing twice, and goes on with others', async () => {
    const first = batch('deny', 300);
    for (let i = 0; i < 4; i += 1)
      expect(await intake.store(noisy, first, signal)).toEqual({ epoch: first.epoch, sequence: 300 });
    const [second, third] = [batch('deny', 400), batch('deny', 1, 'third')];
    const both = await Promise.allSettled([second, third].map((each) => intake.store(noisy, each, signal)));
    expect(both).toMatchObject([
      { status: 'fulfilled' },
      { reason: { reason: 'audit_held_back', details: { retry_after_ms: 10_000 } } },
    ]);
    expect((await accessLog.query({ decisionId: 'third' })).records).toEqual([]);
    expect(await intake.store(quiet, batch('deny', 1), signal)).toMatchObject({ sequence: 1 });
  });

  test('store() does not store what nobody waits for any more, and goes on behind it', async () => {
    const gone = new AbortController();
    const before = intake.store(quiet, batch('allow', 1), signal);
    const waiting = intake.store(quiet, batch('allow', 1, 'gone'), gone.signal);
    const behind = intake.store(quiet, batch('allow', 1, 'behind'), signal);
    gone.abort(new Error('nobody waits'));
    expect(waiting).rejects.toThrow('nobody waits');
    await Promise.all([before, behind]);
    expect((await accessLog.query({ decisionId: 'gone' })).records).toEqual([]);
    expect((await accessLog.query({ decisionId: 'behind' })).records).toHaveLength(1);
  });
});
