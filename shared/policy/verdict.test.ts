import { describe, expect, test } from 'bun:test';
import { PicketError } from '../errors/errors.ts';
import {
  denyWith,
  findResultFault,
  toErrorVerdict,
  toVerdict,
  MAX_RULE_CHARACTERS,
  MAX_RULES,
} from './verdict.ts';

const context = { denyReason: 'policy_deny', policyVersion: 7, latencyUs: 3 } as const;

describe('toVerdict() with rules in audit', () => {
  const CONTEXT = { denyReason: 'policy_deny', policyVersion: 7, latencyUs: 1 } as const;

  test('lets pass what they would deny, and names them', () => {
    expect(toVerdict({ allowed: true, would_deny: ['no-refunds'] }, CONTEXT)).toMatchObject({
      isAllowed: true,
      reason: 'policy_deny',
      wouldDeny: { rules: ['no-refunds'] },
      message: 'Would be denied by no-refunds',
    });
    expect(toVerdict({ allowed: true, would_deny: ['a'], reason: 'why' }, CONTEXT).message).toBe('why');
    expect(toVerdict({ allowed: true, would_deny: [] }, CONTEXT)).toMatchObject({ reason: 'policy_allow' });
    expect(toVerdict({ allowed: true, would_deny: [] }, CONTEXT).wouldDeny).toBeUndefined();
  });

  test('never lets pass what another rule denies', () => {
    const verdict = toVerdict({ allowed: false, would_deny: ['a'] }, CONTEXT);
    expect([verdict.isAllowed, verdict.wouldDeny]).toEqual([false, undefined]);
  });

  test.each([
    ['a'.repeat(MAX_RULE_CHARACTERS + 1)],
    [''],
    [1],
    Array(MAX_RULES + 1).fill('a'),
    'a',
    { a: 1 },
    true,
  ])('denies where they are no list of names: %p', (...names: readonly unknown[]) => {
    const would_deny = names.length === 1 && !Array.isArray(names[0]) ? names[0] : names;
    expect(toVerdict({ allowed: true, would_deny }, CONTEXT)).toMatchObject({
      isAllowed: false,
      reason: 'policy_error',
    });
  });
});

describe('toVerdict()', () => {
  test('allows for true and for an object that allows, and for nothing else', () => {
    const allowing = [true, { allowed: true }, { allowed: true, headers: {}, dynamic_metadata: { a: 1 } }];
    for (const value of allowing)
      expect(toVerdict(value, context)).toMatchObject({
        isAllowed: true,
        reason: 'policy_allow',
        policyVersion: 7,
      });
    const denying = [false, undefined, { allowed: false }];
    for (const value of denying)
      expect(toVerdict(value, context)).toMatchObject({
        isAllowed: false,
        reason: 'policy_deny',
        httpStatus: 403,
      });
    const wrong = [
      null,
      0,
      1,
      '',
      'true',
      [],
      [true],
      {},
      { allowed: 'true' },
      { allowed: 1 },
      { allow: true },
    ];
    for (const value of wrong)
      expect(toVerdict(value, context)).toMatchObject({
        isAllowed: false,
        reason: 'policy_error',
        httpStatus: 403,
      });
  });

  test('does not carry out an allow that changes the request by halves', () => {
    const changes = [
      { headers: { 'x-user': 'a' } },
      { request_headers_to_remove: ['x-admin'] },
      { query_parameters_to_set: { a: 'b' } },
      { query_parameters_to_remove: ['a'] },
    ];
    for (const change of changes)
      expect(toVerdict({ allowed: true, ...change }, context)).toMatchObject({
        isAllowed: false,
        reason: 'policy_error',
      });
    expect(toVerdict({ allowed: false, headers: { a: 'b' } }, context).reason).toBe('policy_deny');
  });

  test("takes the policy's own reason, body and status of a denial", () => {
    expect(
      toVerdict({ allowed: false, reason: 'closed', body: 'no', http_status: 451 }, context),
    ).toMatchObject({
      message: 'closed',
      httpStatus: 451,
    });
    expect(toVerdict({ allowed: false, body: 'no' }, context).message).toBe('no');
    expect(toVerdict({ allowed: false }, context).message).toBe('no rule of the policy allows it');
    for (const http_status of [200, 302, 399, 600, 403.5, '404', null])
      expect(toVerdict({ allowed: false, http_status }, context).httpStatus).toBe(403);
  });

  test('keeps messages to one line of 1024 characters', () => {
    const { message } = toVerdict({ allowed: false, reason: `a\r\nb\u0000${'x'.repeat(5000)}` }, context);
    expect(message.startsWith('a b x')).toBe(true);
    expect(message.length).toBeLessThanOrEqual(1024);
  });

  test('denies with egress_deny on the calling side', () => {
    expect(toVerdict(false, { ...context, denyReason: 'egress_deny' }).reason).toBe('egress_deny');
  });
});

describe('toErrorVerdict()', () => {
  test('denies, and shows the message of our own errors alone', () => {
    const own = toErrorVerdict(new PicketError('internal', 'policy_error', 'Cannot evaluate it'), context);
    expect(own).toMatchObject({ isAllowed: false, reason: 'policy_error', message: 'Cannot evaluate it' });
    expect(toErrorVerdict(new Error('/secret/path'), context).message).toBe(
      'the policy could not be evaluated',
    );
  });
});

describe('denyWith()', () => {
  test('denies for a reason that no evaluation led to', () => {
    expect(denyWith('no_policy', { policyVersion: null, latencyUs: 0 })).toMatchObject({
      isAllowed: false,
      reason: 'no_policy',
      policyVersion: null,
    });
  });
});

describe('findResultFault()', () => {
  test('names what is wrong with a result', () => {
    expect(findResultFault(undefined)).toBeUndefined();
    expect(findResultFault({ allowed: false })).toBeUndefined();
    expect(findResultFault(['a'])).toContain('an array or a set');
    expect(findResultFault('yes')).toContain('a string');
  });
});
