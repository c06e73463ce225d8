import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { CrowdTally } from '../../shared/runtime/crowd-tally.ts';
import { createMetrics } from '../../shared/runtime/metrics.ts';
import { TEST_TRUST_DOMAIN } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { createTestCa, type TestCa } from '../../tests/kit/test-ca.ts';
import { addServerFigures, readHealth, type ServerState } from './health.ts';

const DAY_SECONDS = 86_400;

let folder: string;
let ca: TestCa;
let clock: FakeClock;
let failure: PicketError | undefined;
let state: ServerState;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-health-'));
  clock = new FakeClock(Date.now());
  ca = await createTestCa({ folder, clock });
});
afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(() => {
  failure = undefined;
  state = {
    version: '1.2.3',
    trustDomain: TEST_TRUST_DOMAIN,
    databaseKind: 'postgresql',
    datastore: {
      get failure() {
        return failure;
      },
      check: () =>
        failure === undefined ? Promise.resolve({ epoch: 'e', sequence: 7 }) : Promise.reject(failure),
    },
    authority: ca.authority,
    sync: { streamCount: 2 },
    dataDirectory: folder,
    clock,
    crowds: {
      agents: new CrowdTally(clock),
      operators: new CrowdTally(clock),
      socket: new CrowdTally(clock),
    },
    clockWatch: { jumpMs: -3_600_000, hasJumped: true },
    budget: { heldBack: [], refused: { denials: 3, records: 0 } },
  };
});

describe('readHealth()', () => {
  test('readHealth() tells how the server stands', async () => {
    expect(await readHealth(state)).toMatchObject({
      status: 'ok',
      datastore: 'postgresql',
      agentsConnected: 2,
      changeSequence: 7,
      clockJumpMs: -3_600_000,
      hasClockJumped: true,
      turnedAway: { count: 0 },
    });
  });

  test('readHealth() fails as its database does', () => {
    failure = new PicketError('unavailable', 'database_full', 'Full');
    expect(readHealth(state)).rejects.toBe(failure);
  });
});

describe('addServerFigures()', () => {
  test('addServerFigures() tells database, agents, authority and disk as they stand', async () => {
    const registry = createMetrics({ version: '1.2.3', role: 'server', startedAtMs: 0 });
    addServerFigures(registry, state);
    const valueOf = async (series: string): Promise<number> => {
      const line = (await registry.metrics()).split('\n').find((each) => each.startsWith(`${series} `));
      return Number(line?.split(' ')[1]);
    };
    expect(await valueOf('picket_database_ok')).toBe(1);
    expect(await valueOf('picket_agents_connected')).toBe(2);
    expect(await valueOf('picket_data_disk_free_bytes')).toBeGreaterThan(0);
    for (const of of ['root', 'intermediate', 'policy']) {
      const series = `picket_authority_remaining_seconds{of="${of}"}`;
      const before = await valueOf(series);
      expect(before).toBeGreaterThan(DAY_SECONDS);
      clock.advance(DAY_SECONDS * 1000);
      expect(await valueOf(series)).toBeCloseTo(before - DAY_SECONDS, 0);
    }
    state.crowds.operators.note('full');
    expect(await valueOf('picket_connections_turned_away_total{listener="operators",why="full"}')).toBe(1);
    failure = new PicketError('unavailable', 'database_unavailable', 'Away');
    expect(await valueOf('picket_database_ok')).toBe(0);
  });
});
