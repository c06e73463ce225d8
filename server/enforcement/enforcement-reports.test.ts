import { expect, test } from 'bun:test';
import { DATASTORES, TEST_TRUST_DOMAIN } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { Enforcements } from './enforcement.ts';
import { EnforcementReports } from './enforcement-reports.ts';

test('whoever asks for many reports at once leaves the database to others', async () => {
  const [[, open]] = DATASTORES;
  const kept = await open();
  try {
    const clock = new FakeClock();
    const { datastore } = kept;
    const enforcements = new Enforcements({ datastore, clock, trustDomain: TEST_TRUST_DOMAIN });
    const reports = new EnforcementReports({ datastore, enforcements, clock });
    const asked = Array.from({ length: 5 }, () => reports.report('/shop/*', undefined));
    const outcomes = await Promise.allSettled(asked);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
    const refused = { status: 'rejected', reason: { reason: 'reports_running', code: 'resource_exhausted' } };
    for (const outcome of outcomes.slice(2)) expect(outcome).toMatchObject(refused);
    const { since, until } = await reports.report('/shop/*', undefined);
    expect(Date.parse(until) - Date.parse(since)).toBe(86_400_000);
  } finally {
    await kept.dispose();
  }
}, 60_000);
