import { beforeEach, describe, expect, test } from 'bun:test';
import type { DecisionRequest } from '../../../shared/policy/decision.ts';
import { parseEnforcementScope } from '../../../shared/policy/enforcement.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { JudgeRig, verdictOf } from '../fixtures/judge-rig.ts';
import type { Encounter } from './judge.ts';

const WEB = parseSpiffeId('spiffe://example.org/web');
const INVOICES = parseSpiffeId('spiffe://example.org/invoices');
const ENCOUNTER: Encounter = {
  direction: 'outbound',
  caller: { spiffeId: WEB, address: '10.0.0.1', port: 40_000, certificateNotAfterMs: 1 },
  target: { spiffeId: INVOICES, address: 'fd09::2', port: 80 },
  process: { uid: 7001, pid: 42 },
};
const REQUEST = { method: 'GET', path: '/invoices?a=b', host: 'shop', headers: { accept: '*/*' } };

let rig: JudgeRig;
beforeEach(() => (rig = new JudgeRig()));

describe('Judge, of an end in quarantine,', () => {
  test('asks no policy, on either side', () => {
    rig.hold = ({ caller }) => (caller.spiffeId === WEB ? 'The caller is in quarantine' : undefined);
    rig.allow = rig.egress = () => {
      throw new Error('It was asked');
    };
    const held = {
      isAllowed: false,
      reason: 'quarantined',
      message: 'The caller is in quarantine',
      httpStatus: 403,
    };
    expect(rig.judge.evaluate(ENCOUNTER, 'one', REQUEST)).toMatchObject(held);
    expect(rig.judge.evaluateEgress(ENCOUNTER, 'one', 'mesh')).toMatchObject(held);
    expect(rig.judge.evaluateEgress(ENCOUNTER, 'one', 'outside')).toMatchObject(held);
    expect(rig.judge.judge(ENCOUNTER, 'one', REQUEST).verdict).toMatchObject(held);
    expect(rig.records).toMatchObject([{ decision: 'deny', reason: 'quarantined', path: '/invoices?a=*' }]);
  });
});

describe('Judge, of a service in audit mode,', () => {
  beforeEach(() => {
    rig.modes.set(new Map([[parseEnforcementScope(INVOICES), 'audit']]));
    rig.allow = () => 'policy_deny';
  });

  test('writes down what would have been denied, tells metrics, and lets it pass', () => {
    const { verdict } = rig.judge.judge(ENCOUNTER, 'one', REQUEST);
    expect(verdict.isAllowed).toBe(true);
    const recorded = { decision: 'allow', would_deny: true, reason: 'policy_deny' };
    expect(rig.records).toMatchObject([recorded]);
    expect(rig.records[0]).not.toHaveProperty('rules');
    expect(rig.decided).toMatchObject([recorded]);
    expect(rig.denials.list({ limit: 9 })).toEqual([]);
  });

  test('names the rules that would have denied it', () => {
    const verdict = { ...verdictOf('policy_deny'), isAllowed: true, wouldDeny: { rules: ['a', 'b'] } };
    rig.judge.record(ENCOUNTER, { decisionId: 'one', verdict }, null);
    expect(rig.records).toMatchObject([{ decision: 'allow', would_deny: true, rules: ['a', 'b'] }]);
  });

  test('denies what cannot be written down, and an end in quarantine', () => {
    rig.hasRoom = false;
    const { verdict } = rig.judge.judge(ENCOUNTER, 'one', REQUEST);
    expect(verdict).toMatchObject({ isAllowed: false, reason: 'audit_unavailable' });
    expect(verdict.wouldDeny).toBeUndefined();
    expect(rig.decided[0]).not.toHaveProperty('would_deny');
    rig.hasRoom = true;
    rig.hold = () => 'held';
    expect(rig.judge.judge(ENCOUNTER, 'two', REQUEST).verdict).toMatchObject({
      isAllowed: false,
      reason: 'quarantined',
    });
  });
});

describe('Judge.judge()', () => {
  test('asks the policy about caller, target and request, and writes down what it says', () => {
    const asked: DecisionRequest[] = [];
    rig.allow = (request) => {
      asked.push(request);
      return 'policy_deny';
    };
    const judgement = rig.judge.judge(ENCOUNTER, 'one', REQUEST);
    expect(judgement).toEqual({ decisionId: 'one', verdict: verdictOf('policy_deny') });
    const { caller, target } = ENCOUNTER;
    expect(asked).toEqual([{ decisionId: 'one', caller, target, http: REQUEST }]);
    expect(rig.records).toEqual([
      {
        decision_id: 'one',
        ts: '2026-11-24T10:00:00.000Z',
        direction: 'outbound',
        caller_spiffe_id: WEB,
        target_spiffe_id: INVOICES,
        source: '10.0.0.1:40000',
        destination: '[fd09::2]:80',
        protocol: 'http',
        method: 'GET',
        path: '/invoices?a=*',
        decision: 'deny',
        reason: 'policy_deny',
        message: 'no rule of the policy allows it',
        policy_version: 7,
        latency_us: 12.3,
      },
    ]);
    expect(rig.decided).toEqual(rig.records);
  });

  test('writes down a connection without method and path', () => {
    rig.judge.judge(ENCOUNTER, 'one', null);
    expect(rig.records).toMatchObject([{ protocol: 'tcp', method: null, path: null, decision: 'allow' }]);
  });

  test('denies what cannot be written down, and still tells metrics and the process', () => {
    rig.hasRoom = false;
    const { verdict, decisionId } = rig.judge.judge(ENCOUNTER, 'one', REQUEST);
    expect(verdict).toMatchObject({ isAllowed: false, reason: 'audit_unavailable', httpStatus: 503 });
    expect(decisionId).toBe('one');
    expect(rig.records).toEqual([]);
    expect(rig.decided).toMatchObject([{ decision: 'deny', reason: 'audit_unavailable' }]);
    expect(rig.denials.list({ uid: 7001, limit: 9 })).toMatchObject([
      { record: { reason: 'audit_unavailable' } },
    ]);
  });

  test('cuts a path that would make the record too long', () => {
    rig.judge.judge(ENCOUNTER, 'one', { ...REQUEST, path: `/${'a'.repeat(9000)}` });
    expect(rig.records[0]?.path).toHaveLength(8192);
  });

  test('remembers denials of processes of this host for picket why, and nothing else', () => {
    rig.judge.judge(ENCOUNTER, 'allowed', null);
    rig.allow = () => 'policy_deny';
    rig.judge.judge(ENCOUNTER, 'denied', null);
    rig.judge.judge({ ...ENCOUNTER, direction: 'inbound', process: null }, 'of another host', null);
    const [denial, ...others] = rig.denials.list({ limit: 9 });
    expect(denial).toMatchObject({ isTold: false, uid: 7001, pid: 42, record: { decision_id: 'denied' } });
    expect(others).toEqual([]);
  });

  test('remembers of a denial whether another host decided it, whatever the reason', () => {
    rig.judge.refuse(ENCOUNTER, { reason: 'quarantined' });
    rig.judge.refuse(ENCOUNTER, { reason: 'quarantined', decisionId: 'there', isTold: true });
    const denials = rig.denials.list({ limit: 9 });
    expect(denials.map(({ record, isTold }) => [record.reason, isTold])).toEqual([
      ['quarantined', true],
      ['quarantined', false],
    ]);
  });
});

describe('Judge, of a query that holds a secret,', () => {
  const http = { ...REQUEST, path: '/invoices?token=hush' };
  const shown = '/invoices?token=*';

  test('shows the policy all of it, and nobody else a value', () => {
    const asked: (string | undefined)[] = [];
    rig.allow = rig.egress = (request) => {
      asked.push(request.http?.path);
      return 'policy_allow';
    };
    rig.judge.evaluateEgress(ENCOUNTER, 'leaving', 'outside', http);
    rig.judge.judge(ENCOUNTER, 'allowed', http);
    rig.judge.judgeAhead(ENCOUNTER, http);
    rig.allow = () => 'policy_deny';
    rig.judge.judgeAhead(ENCOUNTER, http);
    rig.judge.refuse(ENCOUNTER, { reason: 'protocol_error', http });
    expect(asked).toEqual([http.path, http.path, http.path]);
    expect(rig.records.map(({ path }) => path)).toEqual([shown, shown, shown, shown]);
    expect(JSON.stringify([rig.records, rig.decided, rig.denials.list({ limit: 9 })])).not.toContain('hush');
  });

  test('shows no value where there is no room for records either', () => {
    rig.hasRoom = false;
    rig.judge.judge(ENCOUNTER, 'one', http);
    rig.judge.judgeAhead(ENCOUNTER, http);
    const denials = rig.denials.list({ limit: 9 });
    expect(denials.map(({ record }) => record.path)).toEqual([shown, shown]);
  });
});

describe('Judge.evaluate()', () => {
  test('writes nothing down, on either side', () => {
    rig.egress = (_request, destination) => (destination === 'outside' ? 'egress_deny' : 'policy_allow');
    expect(rig.judge.evaluate(ENCOUNTER, 'a', null).isAllowed).toBe(true);
    expect(rig.judge.evaluateEgress(ENCOUNTER, 'b', 'mesh').isAllowed).toBe(true);
    expect(rig.judge.evaluateEgress(ENCOUNTER, 'c', 'outside').reason).toBe('egress_deny');
    expect([rig.records, rig.decided]).toEqual([[], []]);
  });
});

describe('Judge.refuse()', () => {
  test('writes down a denial that is not the policy’s, under an id of its own or a known one', () => {
    const own = rig.judge.refuse(ENCOUNTER, { reason: 'caller_unidentified' });
    expect(own.verdict).toMatchObject({
      isAllowed: false,
      message: 'the calling process has no identity',
      httpStatus: 403,
      policyVersion: null,
    });
    const known = rig.judge.refuse(ENCOUNTER, {
      reason: 'target_unreachable',
      message: 'away',
      decisionId: 'known',
    });
    expect([own.decisionId, known.decisionId]).toEqual(['id-1', 'known']);
    expect(rig.records).toMatchObject([
      { decision_id: 'id-1', decision: 'deny', reason: 'caller_unidentified', policy_version: null },
      { decision_id: 'known', reason: 'target_unreachable', message: 'away' },
    ]);
  });

  test('says by the status whether to come again, and cuts what others say', () => {
    const statusOf = (reason: 'overloaded' | 'audit_unavailable' | 'protocol_error'): number =>
      rig.judge.refuse(ENCOUNTER, { reason, message: 'm'.repeat(2000) }).verdict.httpStatus;
    expect([statusOf('overloaded'), statusOf('audit_unavailable'), statusOf('protocol_error')]).toEqual([
      503, 503, 403,
    ]);
    expect(rig.records[0]?.message).toHaveLength(1024);
  });
});
