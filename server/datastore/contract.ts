import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { asc, eq, gt } from 'drizzle-orm';
import { waitUntil } from '../../tests/kit/wait.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Datastore } from './datastore.ts';
import { changeLog, operators, policyVersions, registrationEntries } from './schema.ts';

/** What every adapter of `Datastore` promises. `open` gives an empty datastore; the suite closes it by `dispose`. */
export function describeDatastore(
  name: string,
  open: () => Promise<{ readonly datastore: Datastore; readonly dispose: () => Promise<void> }>,
): void {
  describe(`Datastore (${name})`, () => {
    let datastore: Datastore;
    let dispose: () => Promise<void>;

    beforeAll(async () => {
      ({ datastore, dispose } = await open());
    });
    afterAll(async () => {
      await dispose();
    });

    const logAfter = async (sequence: number) =>
      await datastore.db
        .select()
        .from(changeLog)
        .where(gt(changeLog.sequence, sequence))
        .orderBy(asc(changeLog.sequence));

    const addOperator = (name: string, options: { readonly fails?: boolean } = {}) =>
      datastore.write(async ({ db, changed }) => {
        await db.insert(operators).values({ name, roles: ['a', 'b,"c'], certSerial: '01', notAfter: NOW });
        changed({ kind: 'entry', key: name });
        if (options.fails === true) throw new RangeError('on purpose');
      });

    test('write() numbers changes without gaps in the order of commit, from concurrent writers too', async () => {
      const before = await datastore.position();
      await Promise.all(Array.from({ length: 40 }, (_, i) => addOperator(`concurrent-${i}`)));
      const rows = await logAfter(before.sequence);
      expect(rows.map((row) => row.sequence)).toEqual(rows.map((_, i) => before.sequence + 1 + i));
      expect(new Set(rows.map((row) => row.key)).size).toBe(40);
      expect((await datastore.position()).sequence).toBe(before.sequence + 40);
    });

    test('a reader that sees number n sees every change up to n', async () => {
      const writers = Promise.all(Array.from({ length: 30 }, (_, i) => addOperator(`ordered-${i}`)));
      const written = new AbortController();
      const done = writers.finally(() => written.abort());
      while (!written.signal.aborted) {
        const seen = await datastore.readSnapshot(async (db) => {
          const rows = await db.select().from(changeLog).orderBy(asc(changeLog.sequence));
          const keys = await db.select({ name: operators.name }).from(operators);
          return { rows, names: new Set(keys.map((row) => row.name)) };
        });
        expect(seen.rows.map((row) => row.sequence)).toEqual(seen.rows.map((_, i) => 1 + i));
        expect(seen.rows.every((row) => seen.names.has(row.key))).toBe(true);
      }
      await done;
    });

    test('write() leaves nothing behind, no number either, when the work throws', async () => {
      const before = await datastore.position();
      expect(addOperator('rolled-back', { fails: true })).rejects.toBeInstanceOf(RangeError);
      await waitUntil(
        'the failed transaction is over',
        async () => (await datastore.position()).sequence >= 0,
      );
      expect(await datastore.position()).toEqual(before);
      const rows = await datastore.db.select().from(operators).where(eq(operators.name, 'rolled-back'));
      expect(rows).toEqual([]);
      await addOperator('after-roll-back');
      expect((await datastore.position()).sequence).toBe(before.sequence + 1);
    });

    test('write() logs an object once however often it was noted, and each scope by itself', async () => {
      const before = await datastore.position();
      const scope = parseSpiffeId('spiffe://example.org/picket/agent/tpm/one');
      await datastore.write(async ({ changed }) => {
        changed({ kind: 'entry', key: 'x' });
        changed({ kind: 'entry', key: 'x' });
        changed({ kind: 'entry', key: 'x', scope });
        changed({ kind: 'bundle', key: 'quotes " and \\ and é' });
      });
      const rows = await logAfter(before.sequence);
      expect(rows.map(({ kind, key, scope }) => [kind, key, scope])).toEqual([
        ['entry', 'x', null],
        ['entry', 'x', scope],
        ['bundle', 'quotes " and \\ and é', null],
      ]);
    });

    test('write() without a change takes no number and wakes nobody', async () => {
      const before = await datastore.position();
      expect(await datastore.write(async () => 'answer')).toBe('answer');
      expect(await datastore.position()).toEqual(before);
    });

    test('onChange() hears of each commit until it is ended', async () => {
      let count = 0;
      const end = datastore.onChange(() => (count += 1));
      await addOperator('heard-1');
      await waitUntil('the listener was called', () => count > 0);
      end();
      const after = count;
      let other = 0;
      const endOther = datastore.onChange(() => (other += 1));
      await addOperator('heard-2');
      await waitUntil('the other listener was called', () => other > 0);
      expect(count).toBe(after);
      endOther();
    });

    test('beginEpoch() changes the epoch, keeps the sequence and wakes listeners', async () => {
      const before = await datastore.position();
      let isCalled = false;
      const end = datastore.onChange(() => (isCalled = true));
      const epoch = await datastore.beginEpoch();
      expect(epoch).toMatch(/^[0-9a-f]{32}$/);
      expect(epoch).not.toBe(before.epoch);
      expect(await datastore.position()).toEqual({ epoch, sequence: before.sequence });
      await waitUntil('the listener was called', () => isCalled);
      end();
    });

    test('values of every column type come back as they went in', async () => {
      const artifact = Uint8Array.from({ length: 256 }, (_, i) => i);
      const files = { 'a.rego': 'package a\n"\\ é', 'b.json': '{"x":[1,null]}' };
      await datastore.write(async ({ db }) => {
        await db.insert(policyVersions).values({
          target: 'mesh',
          version: 9_007_199_254_740_991,
          files,
          artifact,
          digest: 'd',
          entrypoints: { allow: 'x/allow' },
          message: '',
          createdBy: 'me',
          createdAt: NOW,
        });
        await db.insert(registrationEntries).values(ENTRY);
      });
      const version = (await datastore.db.select().from(policyVersions))[0];
      expect(version?.files).toEqual(files);
      expect(version?.version).toBe(9_007_199_254_740_991);
      expect(Buffer.from(version?.artifact ?? []).equals(artifact)).toBe(true);
      expect(version?.createdAt.getTime()).toBe(NOW.getTime());
      const entry = (await datastore.db.select().from(registrationEntries))[0];
      expect(entry).toEqual(ENTRY);
      const operator = await datastore.db.select().from(operators).where(eq(operators.name, 'heard-1'));
      expect(operator[0]?.roles).toEqual(['a', 'b,"c']);
    });

    test('write() refuses a text with a NUL character as invalid_argument', async () => {
      const error = await addOperator('nul\0').then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(error).toBeInstanceOf(PicketError);
      expect(error).toMatchObject({ code: 'invalid_argument', reason: 'text_not_storable' });
    });

    test('readSnapshot() cannot write', async () => {
      const wrote = datastore.readSnapshot(async (db) => {
        await db.insert(operators).values({ name: 'reader', roles: [], certSerial: '', notAfter: NOW });
      });
      const error = await wrote.then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(error).toBeInstanceOf(Error);
      expect(await datastore.db.select().from(operators).where(eq(operators.name, 'reader'))).toEqual([]);
    });
  });
}

const NOW = new Date('2026-11-24T10:00:00.123Z');

const ENTRY: typeof registrationEntries.$inferSelect = {
  entryId: '6a3c3d0e-57f9-4b0c-9d8c-0f1a2b3c4d5e',
  spiffeId: 'spiffe://example.org/a',
  parentId: 'spiffe://example.org/picket/agent/tpm/one',
  selectors: ['unix:uid:1000', 'unix:user:a "quoted" name'],
  grantHash: 'h',
  ttlSeconds: 3600,
  federatesWith: ['other.example', 'with,comma'],
  dnsNames: [],
  hint: '',
  listeners: [{ port: 8080, protocol: 'http' }],
  revision: 0,
  createdAt: NOW,
};
