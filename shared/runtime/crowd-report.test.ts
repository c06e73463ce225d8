import { expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { CrowdReport } from './crowd-report.ts';
import { createLog } from './log.ts';

test('CrowdReport tells of the first at once, and of all others once in ten seconds', () => {
  const clock = new FakeClock();
  const lines: string[] = [];
  const log = createLog({ level: 'warn', nowMs: () => 0, write: (line) => void lines.push(line) });
  const report = new CrowdReport<'full' | 'idle'>({ event: 'crowded', clock, log });
  for (let i = 0; i < 1000; i++) report.note(i % 2 === 0 ? 'full' : 'idle', `192.0.2.${i % 200}`);
  expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([{ full: 1, latest: '192.0.2.0' }]);
  clock.advance(10_000);
  expect(lines.slice(1).map((line): unknown => JSON.parse(line))).toMatchObject([
    { event: 'crowded', full: 499, idle: 500, latest: '192.0.2.199' },
  ]);
  clock.advance(20_000);
  expect(lines).toHaveLength(2);
});
