import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  openTestPglite,
  silentLog,
  TEST_TRUST_DOMAIN,
  type TestDatastore,
} from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { OperatorLog } from '../audit/operator-log.ts';
import { startQuarantineExpiry } from './quarantine-expiry.ts';
import { Quarantines } from './quarantines.ts';

const WEB = { kind: 'workload', subject: testWorkloadId('/web') } as const;
let kept: TestDatastore;
let clock: FakeClock;
let quarantines: Quarantines;
let operatorLog: OperatorLog;
let expiry: Running | undefined;

beforeEach(async () => {
  kept = await openTestPglite();
  clock = new FakeClock();
  quarantines = new Quarantines({ datastore: kept.datastore, clock });
  operatorLog = new OperatorLog({ datastore: kept.datastore, clock });
});
afterEach(async () => {
  await expiry?.stop();
  await kept.dispose();
});

function start(): void {
  expiry = startQuarantineExpiry({
    quarantines,
    operatorLog,
    trustDomain: TEST_TRUST_DOMAIN,
    clock,
    log: silentLog,
  });
}

async function add(ttlSeconds?: number): Promise<void> {
  const end = ttlSeconds === undefined ? {} : { ttlSeconds };
  await quarantines.add({ ...WEB, reason: 'because', createdBy: 'me', ...end });
}

const isInForce = async (): Promise<boolean> => (await quarantines.list()).quarantines.length > 0;

/** Lets the look end that runs now. */
async function looked(): Promise<void> {
  await waitUntil('it waits again', () => clock.pending > 0);
}

async function pass(ms: number): Promise<void> {
  await looked();
  clock.advance(ms);
  await looked();
}

describe('startQuarantineExpiry()', () => {
  test('lifts what has ended, not before, and records that', async () => {
    await add(60);
    start();
    for (let passed = 0; passed < 59_000; passed += 1000) await pass(1000);
    expect(await isInForce()).toBe(true);
    await pass(1000);
    expect(await isInForce()).toBe(false);
    const { actions } = await operatorLog.query({ action: 'quarantine.expire' });
    expect(actions).toMatchObject([
      {
        actor: 'spiffe://example.org/picket/server',
        subject: `workload ${WEB.subject}`,
        detail: { reason: 'because', createdBy: 'me' },
      },
    ]);
  });

  test('lifts nothing early because the clock is set ahead, and nothing while it is set back', async () => {
    await add(60);
    start();
    await pass(1000);
    clock.jump(3_600_000);
    for (let i = 0; i < 5; i++) await pass(5000);
    expect(await isInForce()).toBe(true);
    clock.jump(-7_200_000);
    for (let i = 0; i < 20; i++) await pass(5000);
    expect(await isInForce()).toBe(true);
    clock.jump(3_600_000);
    await pass(5000);
    await pass(5000);
    expect(await isInForce()).toBe(false);
  });

  test('leaves alone what has no end, and what was prolonged', async () => {
    await add();
    start();
    for (let i = 0; i < 5; i++) await pass(5000);
    expect(await isInForce()).toBe(true);
    await add(7);
    await pass(5000);
    await add(3600);
    for (let i = 0; i < 5; i++) await pass(5000);
    expect(await isInForce()).toBe(true);
  });
});
