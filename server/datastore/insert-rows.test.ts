import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { eq, getTableColumns, sql } from 'drizzle-orm';
import { DATASTORES, type TestDatastore } from '../../tests/kit/datastore.ts';
import { insertRows, type WholeRow } from './insert-rows.ts';
import { accessLog } from './schema.ts';

const ROW: WholeRow<typeof accessLog> = {
  nodeId: 'json',
  epoch: 'e',
  sequence: 1,
  decisionId: 'd',
  ts: '2026-11-24T10:00:00.123Z',
  direction: 'inbound',
  sourceAddress: '192.0.2.1',
  callerSpiffeId: 'spiffe://example.org/a',
  targetSpiffeId: 'spiffe://example.org/b',
  method: 'GET',
  path: '/',
  decision: 'allow',
  wouldDeny: false,
  rules: [],
  reason: 'policy',
  policyVersion: 1,
  latencyUs: 1.5,
  record: '{"a":1}',
  hash: 'f'.repeat(64),
};
/** As `ROW` has it: what becomes a `Date` on its way back loses the first century. */
const TIME = sql<string>`to_char(ts at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
const CONTROLS = String.fromCharCode(...Array.from({ length: 31 }, (_, i) => i + 1));
const ODD_TEXTS = [
  '',
  'null',
  'NULL',
  CONTROLS,
  '\\u0000 \\ud800 \\\\ \\n',
  `"'{},()[]$1%s--/*;`,
  '\u{7f}\u{85}\u{2028}\u{feff}é\u{1f600}\u{10ffff}',
  'x'.repeat(16 * 1024),
];
const ODD_ROWS: readonly Partial<typeof ROW>[] = [
  {},
  {
    sourceAddress: null,
    callerSpiffeId: null,
    targetSpiffeId: null,
    method: null,
    path: null,
    policyVersion: null,
  },
  { wouldDeny: true, rules: ['one'] },
  { wouldDeny: true, rules: ODD_TEXTS },
  { sourceAddress: '2001:db8::1%eth0', policyVersion: Number.MAX_SAFE_INTEGER },
  { ts: '0001-01-01T00:00:00.000Z', latencyUs: 0, policyVersion: 0 },
  { ts: '9999-12-31T23:59:59.999Z', latencyUs: 1.234e-7 },
  { latencyUs: 1e21 },
  ...ODD_TEXTS.map((text) => ({ decisionId: text, method: text, reason: text, record: text })),
  ...ODD_TEXTS.map((text) => ({ path: text, sourceAddress: text, hash: text })),
];

describe.each(DATASTORES)('insertRows() (%s)', (_name, open) => {
  let kept: TestDatastore;
  beforeAll(async () => {
    kept = await open();
  });
  afterAll(() => kept.dispose());
  const rowsOf = async (nodeId: string) =>
    await kept.datastore.db
      .select({ ...getTableColumns(accessLog), ts: TIME })
      .from(accessLog)
      .where(eq(accessLog.nodeId, nodeId))
      .orderBy(accessLog.sequence);

  test('keeps what an insert with a parameter for each value keeps', async () => {
    const rows = ODD_ROWS.map((change, i) => ({ ...ROW, ...change, sequence: i + 1 }));
    await kept.datastore.write(async ({ db }) => {
      await insertRows(db, accessLog, rows);
      await db
        .insert(accessLog)
        .values(
          rows.map((row) => ({ ...row, rules: [...row.rules], ts: new Date(row.ts), nodeId: 'values' })),
        );
    });
    const stored = await rowsOf('json');
    expect(stored.map((row) => ({ ...row, nodeId: 'values' }))).toEqual(await rowsOf('values'));
    // A real has seven digits.
    expect(stored.map((row) => ({ ...row, latencyUs: 0 }))).toEqual(
      rows.map((row) => ({ ...row, latencyUs: 0 })),
    );
  });

  test('takes more rows than parameters for their values would fit in a statement', async () => {
    const rows = Array.from({ length: 4000 }, (_, i) => ({ ...ROW, nodeId: 'many', sequence: i + 1 }));
    await kept.datastore.write(async ({ db }) => await insertRows(db, accessLog, rows));
    expect((await rowsOf('many')).map(({ sequence }) => sequence)).toEqual(
      rows.map(({ sequence }) => sequence),
    );
  });

  test('refuses what cannot be stored, whole', async () => {
    const insert = async (...changes: Partial<typeof ROW>[]) =>
      await kept.datastore.write(async ({ db }) => {
        const rows = changes.map((change, i) => ({ ...ROW, nodeId: 'bad', sequence: i + 1, ...change }));
        await insertRows(db, accessLog, rows);
      });
    for (const text of ['\0', '\ud800', '\udc00\ud800'])
      expect(insert({}, { record: text })).rejects.toThrow();
    expect(insert({}, { sequence: 1 })).rejects.toThrow();
    const { hash: _hash, ...short } = { ...ROW, nodeId: 'bad' };
    // @ts-expect-error: a column is forgotten.
    const forgetful: WholeRow<typeof accessLog> = short;
    expect(insert({}, { ...forgetful, hash: undefined as never })).rejects.toThrow();
    expect(await rowsOf('bad')).toEqual([]);
  });
});
