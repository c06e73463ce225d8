import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { eq } from 'drizzle-orm';
import type { AccessRecord, AuditAnswer } from '../../shared/protocol/audit.ts';
import { testAccessRecord, testSpool } from '../../tests/kit/audit-batches.ts';
import { DATASTORES, silentLog, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { testAgentId, testWorkloadId } from '../../tests/kit/mesh-data.ts';
import { formatPageCursor } from '../datastore/page-cursor.ts';
import { accessLog } from '../datastore/schema.ts';
import { AccessLog } from './access-log.ts';
import { nextHash } from './audit-chain.ts';
import { OperatorLog } from './operator-log.ts';

const epochOf = (digit: string): string => digit.repeat(32);
const textOf = (change: Partial<AccessRecord>): string => JSON.stringify(testAccessRecord(change));

describe.each(DATASTORES)('AccessLog (%s)', (_name, open) => {
  let kept: TestDatastore;
  let log: AccessLog;
  beforeAll(async () => {
    kept = await open();
    log = new AccessLog({ datastore: kept.datastore, log: silentLog });
  });
  afterAll(() => kept.dispose());
  /** How far the spool is stored then. */
  const keep = async (...batch: Parameters<AccessLog['store']>): Promise<AuditAnswer> => {
    const { epoch, sequence } = await log.store(...batch);
    return { epoch, sequence };
  };
  const node = testAgentId('one');
  const ids = async () => (await log.query()).records.map(({ record }) => record.decision_id);

  test('store() keeps each record once, however often and in however many copies it is sent', async () => {
    const epoch = epochOf('a');
    const spool = testSpool(Array.from({ length: 40 }, (_, i) => textOf({ decision_id: `once-${i}` })));
    const part = (from: number, to: number) => keep(node, { epoch, records: spool.slice(from, to) });
    const answers = await Promise.all(Array.from({ length: 6 }, () => part(0, 20)));
    for (const answer of answers) expect(answer).toEqual({ epoch, sequence: 20 });
    expect(await part(10, 30)).toEqual({ epoch, sequence: 30 });
    expect(await part(0, 5)).toEqual({ epoch, sequence: 30 });
    expect(await part(0, 40)).toEqual({ epoch, sequence: 40 });
    expect((await ids()).filter((id) => id.startsWith('once-'))).toHaveLength(40);
    const rows = await kept.datastore.db.select().from(accessLog);
    expect(new Set(rows.map((row) => row.record))).toEqual(new Set(spool.map((record) => record.record)));
  });

  test('store() takes nothing behind a gap and answers what it has', async () => {
    const epoch = epochOf('b');
    const spool = testSpool(Array.from({ length: 6 }, (_, i) => textOf({ decision_id: `gap-${i}` })));
    expect(await keep(node, { epoch, records: spool.slice(2) })).toEqual({ epoch, sequence: 0 });
    await keep(node, { epoch, records: spool.slice(0, 2) });
    expect(await keep(node, { epoch, records: spool.slice(4) })).toEqual({ epoch, sequence: 2 });
    expect((await ids()).filter((id) => id.startsWith('gap-'))).toHaveLength(2);
    expect(await keep(node, { epoch, records: spool.slice(2) })).toEqual({ epoch, sequence: 6 });
  });

  test('store() goes on behind a gap that the agent tells of, once, and puts it on record', async () => {
    const epoch = epochOf('7');
    const spool = testSpool(Array.from({ length: 9 }, (_, i) => textOf({ decision_id: `lost-${i + 1}` })));
    await keep(node, { epoch, records: spool.slice(0, 2) });
    const hash = spool[4]!.hash;
    const behind = { epoch, records: spool.slice(5, 7) };
    expect(await keep(node, { ...behind, gap: { after: 1, hash } })).toEqual({ epoch, sequence: 2 });
    expect(keep(node, { ...behind, gap: { after: 2, hash: spool[3]!.hash } })).rejects.toMatchObject({
      reason: 'audit_chain_broken',
    });
    const batch = { ...behind, gap: { after: 2, hash } };
    for (const answer of await Promise.all(Array.from({ length: 4 }, () => keep(node, batch))))
      expect(answer).toEqual({ epoch, sequence: 7 });
    expect(await keep(node, { epoch, records: spool.slice(6) })).toEqual({ epoch, sequence: 9 });
    expect((await ids()).filter((id) => id.startsWith('lost-')).sort()).toEqual(
      [1, 2, 6, 7, 8, 9].map((i) => `lost-${i}`),
    );
    const { actions } = await new OperatorLog({ datastore: kept.datastore, clock: new FakeClock() }).query();
    expect(actions.filter(({ action }) => action === 'audit.gap')).toMatchObject([
      { actor: node, subject: epoch, detail: { from: 3, to: 5, records: 3 } },
    ]);
  });

  test('store() keeps spools and nodes apart', async () => {
    const records = testSpool([textOf({ decision_id: 'apart' })]);
    for (const [host, digit] of [
      ['one', 'c'],
      ['one', 'd'],
      ['two', 'c'],
    ] as const)
      expect(await keep(testAgentId(host), { epoch: epochOf(digit), records })).toMatchObject({
        sequence: 1,
      });
    expect((await ids()).filter((id) => id === 'apart')).toHaveLength(3);
  });

  test('store() refuses a batch with one bad record whole', async () => {
    const epoch = epochOf('e');
    const texts = [textOf({ decision_id: 'bad-1' }), '{"decision":"allow"}'];
    expect(keep(node, { epoch, records: testSpool(texts) })).rejects.toMatchObject({
      code: 'invalid_argument',
      reason: 'audit_record_invalid',
      details: { sequence: 2 },
    });
    expect(await ids()).not.toContain('bad-1');
    const broken = testSpool(texts.slice(0, 1)).map((record) => ({ ...record, hash: 'f'.repeat(64) }));
    expect(keep(node, { epoch, records: broken })).rejects.toMatchObject({
      reason: 'audit_chain_broken',
    });
  });

  test('store() takes a full batch, and texts that a database would refuse', async () => {
    const epoch = epochOf('f');
    const strange = { path: '/\0\ud800', method: 'G\0', caller_spiffe_id: null, decision_id: 'strange' };
    const texts = [
      textOf(strange),
      ...Array.from({ length: 999 }, (_, i) =>
        textOf({ ts: '2026-11-01T00:00:00.000Z', decision_id: `full-${i}` }),
      ),
    ];
    expect(await keep(node, { epoch, records: testSpool(texts) })).toEqual({ epoch, sequence: 1000 });
    const found = await log.query({ decisionId: 'strange' });
    expect(found.records.map(({ record }) => record)).toEqual([testAccessRecord(strange)]);
  });

  test('query() filters by each field', async () => {
    const epoch = epochOf('1');
    const [caller, target] = [testWorkloadId('/q-caller'), testWorkloadId('/q-target')];
    const times = ['2026-12-01T00:00:00.000Z', '2026-12-01T00:00:00.001Z', '2026-12-01T00:00:00.002Z'];
    const texts = times.flatMap((ts, i) => [
      textOf({ ts, caller_spiffe_id: caller, decision_id: `q-c-${i}`, decision: 'deny' }),
      textOf({ ts, target_spiffe_id: target, decision_id: `q-t-${i}` }),
    ]);
    await keep(node, { epoch, records: testSpool(texts) });
    const find = async (filter: Parameters<AccessLog['query']>[0]) =>
      (await log.query(filter)).records.map(({ record }) => record.decision_id);
    expect(await find({ caller })).toEqual(['q-c-2', 'q-c-1', 'q-c-0']);
    expect(await find({ target })).toEqual(['q-t-2', 'q-t-1', 'q-t-0']);
    expect(await find({ caller, target })).toEqual([]);
    expect(await find({ caller, decision: 'allow' })).toEqual([]);
    expect(await find({ decision: 'deny' })).toEqual(['q-c-2', 'q-c-1', 'q-c-0']);
    expect(await find({ decisionId: 'q-t-1' })).toEqual(['q-t-1']);
    const [fromMs, toMs] = [Date.parse(times[1]!), Date.parse(times[2]!)];
    expect(await find({ fromMs, toMs })).toEqual(['q-t-1', 'q-c-1']);
    const noTime = [8.64e15 + 1, 'node', 'epoch', 1];
    for (const cursor of ['x', formatPageCursor(noTime)])
      expect(log.query({ cursor })).rejects.toMatchObject({ reason: 'cursor_invalid' });
    expect(log.query({ limit: 1001 })).rejects.toMatchObject({ reason: 'limit_invalid' });
  });

  test('query() pages through equal times once each, also while records arrive', async () => {
    const caller = testWorkloadId('/paged');
    const store = async (digit: string, count: number) => {
      const texts = Array.from({ length: count }, (_, i) =>
        textOf({ caller_spiffe_id: caller, decision_id: `${digit}-${i}` }),
      );
      await keep(node, { epoch: epochOf(digit), records: testSpool(texts) });
    };
    await store('5', 25);
    const seen: string[] = [];
    let cursor: string | undefined;
    let isFirst = true;
    do {
      const page = await log.query({ caller, limit: 10, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.records.map(({ record }) => record.decision_id));
      cursor = page.nextCursor;
      if (isFirst) await store('9', 7);
      isFirst = false;
    } while (cursor !== undefined);
    expect(seen).toHaveLength(25);
    expect(new Set(seen).size).toBe(25);
  });

  test('prune() forgets the oldest records, and the spools go on', async () => {
    expect(await log.prune(Date.parse('2026-11-02T00:00:00.000Z'), 600)).toBe(600);
    expect(await log.prune(Date.parse('2026-11-02T00:00:00.000Z'), 600)).toBe(399);
    expect(await log.prune(Date.parse('2026-11-02T00:00:00.000Z'))).toBe(0);
    const again = await keep(node, {
      epoch: epochOf('5'),
      records: testSpool([
        textOf({
          caller_spiffe_id: testWorkloadId('/paged'),
          decision_id: '5-0',
        }),
      ]),
    });
    expect(again).toEqual({ epoch: epochOf('5'), sequence: 25 });
  });

  test('store() keeps the text that is hashed, and in the columns what a database takes of it', async () => {
    const epoch = '5a'.repeat(16);
    const controls = String.fromCharCode(...Array.from({ length: 32 }, (_, i) => i), 0x7f, 0x2028);
    const rules = ['a "quoted" \\ rule', '{},NULL', 'null', '\0'];
    const odd: readonly Partial<AccessRecord>[] = [
      { path: `/${controls}`, method: '\\u0000' },
      { path: `/${'é'.repeat(5000)}`, would_deny: true, rules },
      { source: '[2001:db8::1%eth0]:443', ts: '2026-11-24T12:00:00.123456+02:00', latency_us: 0 },
      { source: 'x', method: null, path: null, caller_spiffe_id: null, target_spiffe_id: null },
      { direction: 'outbound', decision: 'deny', reason: 'no_rule', policy_version: null, user_id: '\ud83d' },
    ];
    // Half a character as it is, not escaped: JSON in JSON may bring it; what is hashed of it is U+FFFD.
    const texts = [...odd.map(textOf), textOf({ path: '/HALF' }).replace('HALF', '\udfff')];
    const spool = testSpool(texts);
    await keep(node, { epoch, records: spool });
    const rows = await kept.datastore.db
      .select()
      .from(accessLog)
      .where(eq(accessLog.epoch, epoch))
      .orderBy(accessLog.sequence);
    let hash = '0'.repeat(64);
    for (const row of rows) {
      hash = nextHash(hash, row.record);
      expect(row).toMatchObject({ nodeId: node, hash });
    }
    expect(rows.map(({ record }) => record)).toEqual(texts.map((text) => text.toWellFormed()));
    const usual = {
      decisionId: 'd-1',
      ts: new Date('2026-11-24T10:00:00Z'),
      direction: 'inbound',
      sourceAddress: '192.0.2.1',
      callerSpiffeId: testWorkloadId('/a'),
      targetSpiffeId: testWorkloadId('/b'),
      method: 'GET',
      path: '/',
      decision: 'allow',
      wouldDeny: false,
      rules: [],
      reason: 'policy',
      policyVersion: 1,
      latencyUs: 1.5,
    };
    const columns = [
      { path: `/${controls.replace('\0', '\ufffd')}`, method: '\\u0000' },
      { path: `/${'é'.repeat(5000)}`, wouldDeny: true, rules: rules.with(3, '\ufffd') },
      { sourceAddress: '2001:db8::1%eth0', ts: new Date('2026-11-24T10:00:00.123Z'), latencyUs: 0 },
      { sourceAddress: 'x', method: null, path: null, callerSpiffeId: null, targetSpiffeId: null },
      { direction: 'outbound', decision: 'deny', reason: 'no_rule', policyVersion: null },
      { path: '/\ufffd' },
    ];
    expect(rows.map(({ record: _record, hash: _hash, ...row }) => row)).toEqual(
      columns.map((change, i) => ({ nodeId: node, epoch, sequence: i + 1, ...usual, ...change })),
    );
  });
});
