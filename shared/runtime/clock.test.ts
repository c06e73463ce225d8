import { expect, test } from 'bun:test';
import { systemClock } from './clock.ts';

test('systemClock.schedule() calls what is due already in the next turn, and warns of nothing', async () => {
  const warnings: string[] = [];
  const note = ({ name }: Error): void => void warnings.push(name);
  process.on('warning', note);
  await new Promise<void>((resolve) => void systemClock.schedule(-5, resolve));
  process.off('warning', note);
  expect(warnings).toEqual([]);
});
