import { beforeEach, describe, expect, test } from 'bun:test';
import { RecordBatch } from '../../audit/record-batch.ts';
import { RecordsAhead } from './records-ahead.ts';

describe('RecordsAhead.write()', () => {
  let batch: RecordBatch;
  let records: RecordsAhead;
  let commits: number;
  let isRoom: boolean;
  const commit = (): void => {
    commits += 1;
    if (isRoom) batch.keep();
    batch = new RecordBatch();
  };

  beforeEach(() => {
    [batch, commits, isRoom] = [new RecordBatch(), 0, true];
    records = new RecordsAhead(commit);
  });

  test('writes what was noted, once', () => {
    expect([records.write(), commits]).toEqual([true, 0]);
    records.note(batch);
    records.note(undefined);
    records.note(batch);
    expect([records.write(), records.write(), commits]).toEqual([true, true, 1]);
  });

  test('is false for ever once something was lost, in a batch that others wrote in between too', () => {
    records.note(batch);
    isRoom = false;
    commit();
    isRoom = true;
    records.note(batch);
    expect(records.write()).toBe(false);
    records.note(batch);
    expect(records.write()).toBe(false);
  });
});
