import { expect, setDefaultTimeout, test } from 'bun:test';
import { expectWhole } from './expect-whole.ts';
import { undergo } from './ordeal.ts';
import { soak } from './soak.ts';

setDefaultTimeout(300_000);

test('certificates rotate, policies change and agents are restarted under load: nothing is lost', async () => {
  const report = await undergo(soak({ seconds: 60, seed: 24 }));
  expectWhole(report);
  expect(report.policies).toBeGreaterThan(3);
});
