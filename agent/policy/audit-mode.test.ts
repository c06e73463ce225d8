import { describe, expect, test } from 'bun:test';
import type { DecisionReason, DecisionRequest } from '../../shared/policy/decision.ts';
import { DECISION_REASONS } from '../../shared/policy/decision.ts';
import { parseEnforcementScope } from '../../shared/policy/enforcement.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { verdictOf } from '../proxy/fixtures/judge-rig.ts';
import { withAuditMode, type EnforcementModes } from './audit-mode.ts';
import type { Authorizer } from './authorizer.ts';

const WEB = parseSpiffeId('spiffe://example.org/shop/web');
const request = (target: DecisionRequest['target']['spiffeId']): DecisionRequest => ({
  decisionId: 'd',
  caller: { spiffeId: null, address: '192.0.2.1', port: 1, certificateNotAfterMs: 0 },
  target: { spiffeId: target, address: '192.0.2.2', port: 80 },
  http: null,
});
const AUDIT: EnforcementModes = new Map([[parseEnforcementScope('spiffe://example.org/shop/*'), 'audit']]);

function rig(reason: DecisionReason, modes: EnforcementModes = AUDIT) {
  let policyChanged: () => void = () => undefined;
  const inner: Authorizer = {
    authorize: () => verdictOf(reason),
    authorizeEgress: () => verdictOf(reason),
    asksForDomain: false,
    changesWithTime: false,
    watch: (listener) => {
      policyChanged = listener;
      return () => (policyChanged = () => undefined);
    },
  };
  const watched = new WatchedValue(modes);
  return { authorizer: withAuditMode(inner, watched), watched, changePolicy: () => policyChanged() };
}

describe('withAuditMode()', () => {
  test('lets pass what the policy denies to a service in audit mode, marked, on both sides', () => {
    for (const reason of ['policy_deny', 'egress_deny', 'policy_error'] as const) {
      const { authorizer } = rig(reason);
      const expected = { isAllowed: true, reason, wouldDeny: { rules: [] } };
      expect(authorizer.authorize(request(WEB))).toMatchObject(expected);
      expect(authorizer.authorizeEgress(request(WEB), 'mesh')).toMatchObject(expected);
    }
  });

  test('leaves every denial alone that is not the policy’s', () => {
    const own = new Set<DecisionReason>(['policy_allow', 'policy_deny', 'egress_deny', 'policy_error']);
    const others = (Object.keys(DECISION_REASONS) as DecisionReason[]).filter((reason) => !own.has(reason));
    expect(others).toContain('no_policy');
    for (const reason of others)
      expect(rig(reason).authorizer.authorize(request(WEB))).toEqual(verdictOf(reason));
  });

  test('leaves other services alone, what has no identity, and what leaves the mesh', () => {
    const { authorizer } = rig('policy_deny');
    for (const target of [parseSpiffeId('spiffe://example.org/shopping/web'), null])
      expect(authorizer.authorize(request(target))).toEqual(verdictOf('policy_deny'));
    expect(authorizer.authorizeEgress(request(null), 'outside').isAllowed).toBe(false);
  });

  test('marks nothing that is allowed', () => {
    expect(rig('policy_allow').authorizer.authorize(request(WEB))).toEqual(verdictOf('policy_allow'));
  });

  test('follows a change at once, and tells of it as of one of the policy', () => {
    const { authorizer, watched, changePolicy } = rig('policy_deny', new Map());
    let told = 0;
    const stop = authorizer.watch(() => (told += 1));
    expect(authorizer.authorize(request(WEB)).isAllowed).toBe(false);
    watched.set(AUDIT);
    expect(authorizer.authorize(request(WEB)).isAllowed).toBe(true);
    watched.set(new Map());
    expect(authorizer.authorize(request(WEB)).isAllowed).toBe(false);
    changePolicy();
    expect(told).toBe(3);
    stop();
    watched.set(AUDIT);
    changePolicy();
    expect(told).toBe(3);
  });
});
