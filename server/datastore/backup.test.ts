import { afterEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { asc } from 'drizzle-orm';
import { testAccessRecord, testSpool } from '../../tests/kit/audit-batches.ts';
import { DATASTORES, silentLog, TEST_TRUST_DOMAIN, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testAttestation, testEntry, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { Nodes } from '../agents/nodes.ts';
import { AccessLog } from '../audit/access-log.ts';
import { OperatorLog } from '../audit/operator-log.ts';
import { Enforcements } from '../enforcement/enforcement.ts';
import { Quarantines } from '../quarantine/quarantines.ts';
import { Registration } from '../registration/registration.ts';
import { NodePlaces } from '../services/node-places.ts';
import { Services } from '../services/services.ts';
import { restoreBackup, writeBackup } from './backup.ts';
import type { Datastore } from './datastore.ts';
import * as schema from './schema.ts';

// A PostgreSQL is made for it.
setDefaultTimeout(60_000);

const clock = new FakeClock();
const opened: TestDatastore[] = [];
afterEach(async () => {
  for (const kept of opened.splice(0)) await kept.dispose();
});

async function openEmpty(open: () => Promise<TestDatastore>): Promise<Datastore> {
  const kept = await open();
  opened.push(kept);
  return kept.datastore;
}

async function fill(datastore: Datastore): Promise<void> {
  const nodes = new Nodes({ datastore, clock, log: silentLog });
  await nodes.recordAttestation(testAttestation('one', { declaredAddresses: ['192.0.2.1'] }));
  const registration = new Registration({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
  for (let i = 0; i < 250; i += 1)
    await registration.create(testEntry('one', `/w-${i}`, { hint: 'é "\\\n' }));
  const records = testSpool([JSON.stringify(testAccessRecord({ path: '/\0' }))]);
  await new AccessLog({ datastore, log: silentLog }).store(testAgentId('one'), {
    epoch: 'a'.repeat(32),
    records,
  });
  await new OperatorLog({ datastore, clock }).append(action);
  const quarantines = new Quarantines({ datastore, clock });
  await quarantines.add({
    kind: 'node',
    subject: testAgentId('one'),
    reason: 'r',
    ttlSeconds: 9,
    createdBy: 'me',
  });
  const enforcements = new Enforcements({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
  await enforcements.set({ scope: enforcements.scopeOf('/web/*'), mode: 'audit', setBy: 'me' });
  await new Services({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN }).set('web', {
    spiffeId: testWorkloadId('/web'),
    port: 80,
    addresses: [{ address: '198.18.0.1', port: 80 }],
    createdBy: 'me',
  });
  await new NodePlaces({ datastore, trustDomain: TEST_TRUST_DOMAIN }).set(testAgentId('one'), 'eu/a');
  await datastore.write(async ({ db }) => {
    await db.insert(schema.policyVersions).values({
      target: 'mesh',
      version: 9_007_199_254_740_991,
      files: { 'a.rego': 'package a' },
      artifact: Uint8Array.from({ length: 256 }, (_, i) => i),
      digest: 'd',
      entrypoints: { allow: 'a/allow' },
      message: '',
      createdBy: 'me',
    });
  });
}

const action = {
  actor: 'a',
  action: 'b',
  subject: 'c',
  decision: 'allow',
  outcome: 'ok',
  detail: { x: 1 },
} as const;

async function backupOf(datastore: Datastore): Promise<string[]> {
  const lines: string[] = [];
  await writeBackup(datastore, async (line) => {
    lines.push(line);
  });
  return lines;
}

async function* linesOf(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}

/** Everything but the epoch. */
async function contentOf(datastore: Datastore): Promise<unknown> {
  const { db } = datastore;
  return {
    sequence: (await datastore.position()).sequence,
    log: await db.select().from(schema.changeLog).orderBy(asc(schema.changeLog.sequence)),
    nodes: await db.select().from(schema.nodes),
    addresses: await db.select().from(schema.nodeAddresses),
    entries: await db
      .select()
      .from(schema.registrationEntries)
      .orderBy(asc(schema.registrationEntries.entryId)),
    access: await db.select().from(schema.accessLog),
    cursors: await db.select().from(schema.accessCursors),
    quarantines: await db.select().from(schema.quarantines),
    modes: await db.select().from(schema.enforcementModes),
    services: await db.select().from(schema.services),
    places: await db.select().from(schema.nodePlaces),
    actions: await db.select().from(schema.operatorLog),
    policies: (await db.select().from(schema.policyVersions)).map((row) => ({
      ...row,
      artifact: Buffer.from(row.artifact).toString('hex'),
    })),
  };
}

describe.each([
  ['PGlite', 'PostgreSQL', DATASTORES[0][1], DATASTORES[1][1]],
  ['PostgreSQL', 'PGlite', DATASTORES[1][1], DATASTORES[0][1]],
] as const)('a backup of %s in %s', (_from, _to, openSource, openTarget) => {
  test('restores everything under a new epoch, and the database goes on', async () => {
    const source = await openEmpty(openSource);
    await fill(source);
    const lines = await backupOf(source);
    const target = await openEmpty(openTarget);
    await restoreBackup(target, linesOf(lines));
    expect(await contentOf(target)).toEqual(await contentOf(source));
    expect((await target.position()).epoch).not.toBe((await source.position()).epoch);
    await new OperatorLog({ datastore: target, clock }).append(action);
    expect((await new OperatorLog({ datastore: target, clock }).query()).actions.map(({ id }) => id)).toEqual(
      [2, 1],
    );
    const { sequence } = await target.position();
    await target.write(async ({ changed }) => changed({ kind: 'entry', key: 'k' }));
    expect((await target.position()).sequence).toBe(sequence + 1);
  });
});

test('restoreBackup() refuses a damaged, cut, foreign or second backup and leaves the database as it was', async () => {
  const source = await openEmpty(DATASTORES[0][1]);
  await fill(source);
  const lines = await backupOf(source);
  const target = await openEmpty(DATASTORES[1][1]);
  const before = await target.position();
  const [first = '', ...rest] = lines;
  const attempts: readonly (readonly [readonly string[], string])[] = [
    [[], 'backup_invalid'],
    [rest, 'backup_invalid'],
    [lines.slice(0, -1), 'backup_invalid'],
    [[...lines, lines[1] ?? ''], 'backup_invalid'],
    [lines.toSpliced(5, 1), 'backup_invalid'],
    [lines.with(5, lines[6] ?? ''), 'backup_invalid'],
    [lines.with(5, (lines[5] ?? '').replace('w-', 'v-').replace('one', 'two')), 'backup_invalid'],
    [lines.with(5, '["pg_authid",{}]'), 'backup_invalid'],
    [lines.with(5, 'x'), 'backup_invalid'],
    [[first.replace('example.org', 'other.example'), ...rest], 'trust_domain_mismatch'],
    [[first.replace(/"schema":"./, '"schema":"x'), ...rest], 'backup_schema_mismatch'],
  ];
  for (const [attempt, reason] of attempts)
    expect(restoreBackup(target, linesOf(attempt))).rejects.toMatchObject({ reason });
  expect(await target.position()).toEqual(before);
  await restoreBackup(target, linesOf(lines));
  expect(restoreBackup(target, linesOf(lines))).rejects.toMatchObject({
    code: 'failed_precondition',
    reason: 'database_not_empty',
  });
});
