import { expect, test } from 'bun:test';
import { RecordBatch } from '../../audit/record-batch.ts';
import { RecordTurn } from './record-turn.ts';

const turnOver = async (): Promise<void> => await new Promise((resolve) => void setImmediate(resolve));

test('RecordTurn lets everything of a turn go on in its order, behind one write, and tells what was kept', async () => {
  let commits = 0;
  let batch = new RecordBatch();
  const turn = new RecordTurn({
    commit: () => {
      commits += 1;
      batch.keep();
      batch = new RecordBatch();
    },
  });
  const lost = new RecordBatch();
  const told: string[] = [];
  turn.run(batch, (isKept) => {
    told.push(`one ${isKept}`);
    turn.run(batch, (isKeptThen) => void told.push(`four ${isKeptThen}`));
  });
  turn.run(lost, (isKept) => void told.push(`two ${isKept}`));
  turn.run(batch, (isKept) => void told.push(`three ${isKept}`));
  expect([commits, told]).toEqual([0, []]);
  await turnOver();
  expect([commits, told]).toEqual([1, ['one true', 'two false', 'three true']]);
  await turnOver();
  expect([commits, told.at(-1)]).toEqual([2, 'four true']);
});
