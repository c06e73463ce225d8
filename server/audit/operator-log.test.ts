import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { DATASTORES, type TestDatastore } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { OperatorLog, type OperatorAction } from './operator-log.ts';

describe.each(DATASTORES)('OperatorLog (%s)', (_name, open) => {
  let kept: TestDatastore;
  let log: OperatorLog;
  const clock = new FakeClock();
  beforeAll(async () => {
    kept = await open();
    log = new OperatorLog({ datastore: kept.datastore, clock });
  });
  afterAll(() => kept.dispose());
  const action = (change: Partial<OperatorAction> = {}): OperatorAction => ({
    actor: 'local:uid:0',
    action: 'entry.create',
    subject: 'x',
    decision: 'allow',
    outcome: 'ok',
    detail: { a: [1, null, 'é'] },
    ...change,
  });

  test('query() shows what append() recorded, the last first, filtered and in pages', async () => {
    const startMs = clock.nowMs();
    for (let i = 0; i < 5; i += 1) {
      await log.append(action({ subject: `s-${i}`, action: i % 2 === 0 ? 'entry.create' : 'entry.delete' }));
      clock.advance(1000);
    }
    const all = (await log.query()).actions;
    expect(all.map(({ subject }) => subject)).toEqual(['s-4', 's-3', 's-2', 's-1', 's-0']);
    expect(all[4]).toMatchObject({ ...action({ subject: 's-0' }), ts: new Date(startMs) });
    expect((await log.query({ action: 'entry.delete' })).actions).toHaveLength(2);
    expect((await log.query({ fromMs: startMs + 1000, toMs: startMs + 3000 })).actions).toHaveLength(2);
    expect((await log.query({ actor: 'nobody' })).actions).toEqual([]);
    const first = await log.query({ limit: 3 });
    const rest = await log.query({ limit: 3, cursor: first.nextCursor ?? '' });
    expect([...first.actions, ...rest.actions]).toEqual([...all]);
    expect(rest.nextCursor).toBeUndefined();
  });

  test('append() takes whatever somebody tried', async () => {
    const strange = action({
      subject: 'a\0b\ud800',
      outcome: '\0',
      detail: { 'k\0': ['\0', { '\udfff': '\udfff' }] },
    });
    await log.append(strange);
    expect((await log.query({ limit: 1 })).actions[0]?.subject).toBe('a\u{fffd}b\u{fffd}');
  });

  test('appendTo() leaves nothing when its transaction fails', async () => {
    const before = (await log.query()).actions.length;
    const failing = kept.datastore.write(async ({ db }) => {
      await log.appendTo(db, action());
      throw new RangeError('on purpose');
    });
    expect(failing).rejects.toBeInstanceOf(RangeError);
    expect((await log.query()).actions).toHaveLength(before);
  });
});
