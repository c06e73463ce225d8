import { expect, test } from 'bun:test';
import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { CALLER } from '../fixtures/mesh-rig.ts';
import { settled } from '../fixtures/scripted-stream.ts';
import { RequestNames } from './outside-names.ts';

test('one connection has few names looked up at once, and more as those are known', async () => {
  const rig = new JudgeRig();
  rig.egress = ({ target }) => (target.domain === undefined ? 'egress_deny' : 'policy_allow');
  const lookups: ((leads: boolean) => void)[] = [];
  const askers = new Set<string>();
  const names = new RequestNames({
    judge: rig.judge,
    domains: {
      leadsTo: async (_, __, asker) => {
        askers.add(asker);
        return await new Promise((resolve) => lookups.push(resolve));
      },
    },
    hold: (verdict) => verdict,
    connectionId: 'connection',
    plain: {
      direction: 'outbound',
      caller: {
        spiffeId: CALLER,
        address: '10.0.0.1',
        port: 1,
        certificateNotAfterMs: 0,
      },
      target: { spiffeId: null, address: '10.0.0.2', port: 80 },
      process: null,
    },
  });
  const ask = (name: string): boolean => names.judge(requestOf(name)).verdict.isAllowed;
  for (let i = 0; i < 100; i++) expect(ask(`n${i}.test`)).toBe(false);
  expect(lookups).toHaveLength(4);
  expect([...askers]).toEqual([String(CALLER)]);
  for (const answer of lookups.splice(0)) answer(true);
  await settled();
  expect([ask('n3.test'), ask('n4.test')]).toEqual([true, false]);
  expect(lookups).toHaveLength(1);
});

function requestOf(host: string): DecisionHttpRequest {
  return { method: 'GET', path: '/', host, headers: {} };
}
