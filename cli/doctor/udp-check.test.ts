import { expect, test } from 'bun:test';
import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { checkUdp } from './udp-check.ts';

const GOOD = { isHearing: true, deafIn: [], otherUsersIn: [], flows: 1, maxFlows: 1024 };

test.each<[StatusAnswer['udp'], string, string]>([
  [null, 'ok', 'dropped'],
  [GOOD, 'ok', '1 flows of 1024'],
  [{ ...GOOD, isHearing: false }, 'fail', 'does not hear'],
  [{ ...GOOD, deafIn: ['front', 'back'] }, 'warn', 'UDP of front, back is dropped'],
  [{ ...GOOD, otherUsersIn: ['front'] }, 'warn', 'UDP of front is dropped: it has a user namespace'],
  [{ ...GOOD, flows: 768 }, 'warn', '768 flows of UDP pass'],
])('checkUdp() tells of %p', (udp, outcome, found) => {
  const check = checkUdp({ udp, capture: { mode: 'nftables' } });
  expect([check.name, check.outcome]).toEqual(['udp', outcome as typeof check.outcome]);
  expect(check.found).toContain(found);
  expect(check.advice === undefined).toBe(outcome === 'ok');
});

test('checkUdp() says of nothing that it is dropped where the agent keeps no rules', () => {
  const { found, outcome } = checkUdp({ udp: null, capture: { mode: 'off' } });
  expect([outcome, found]).toEqual(['ok', 'the agent keeps no rules: what leaves is left alone']);
});
