import { describe, expect, test } from 'bun:test';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { TestPolicySigner, type TestPolicy } from '../../tests/kit/policy-rig.ts';
import type { DecisionRequest } from '../../shared/policy/decision.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Authorizer } from './authorizer.ts';
import { createAuthorizer } from './authorize.ts';
import { loadPolicy, type LoadedPolicy } from './loaded-policy.ts';

const signer = new TestPolicySigner();
const request: DecisionRequest = {
  decisionId: 'd',
  caller: {
    spiffeId: parseSpiffeId('spiffe://example.org/web'),
    address: '10.0.0.1',
    port: 4000,
    certificateNotAfterMs: 1,
  },
  target: { spiffeId: parseSpiffeId('spiffe://example.org/invoices'), address: '10.0.0.2', port: 80 },
  http: { method: 'GET', path: '/invoices/7?a=b', host: 'h', headers: { accept: '*/*' } },
};
const anonymous: DecisionRequest = {
  ...request,
  caller: { spiffeId: null, address: '10.0.0.3', port: 1, certificateNotAfterMs: 0 },
};

async function load(policy: TestPolicy): Promise<LoadedPolicy> {
  return await loadPolicy(createOpaWasmLoader(), policy, 0);
}

interface Rig {
  readonly authorizer: Authorizer;
  readonly policy: WatchedValue<LoadedPolicy | undefined>;
  readonly clock: FakeClock;
  readonly lines: string[];
}

async function open(condition: string | undefined, rules = ''): Promise<Rig> {
  const current = condition === undefined ? undefined : await load(signer.publish({ condition, rules }, 3));
  const policy = new WatchedValue<LoadedPolicy | undefined>(current);
  const clock = new FakeClock();
  const lines: string[] = [];
  const log = createLog({ level: 'info', nowMs: () => 0, write: (line) => lines.push(line) });
  return { authorizer: createAuthorizer({ policy, clock, log }), policy, clock, lines };
}

describe('createAuthorizer()', () => {
  test('denies everything while there is no policy', async () => {
    const { authorizer } = await open(undefined);
    const denied = { isAllowed: false, reason: 'no_policy', policyVersion: null };
    expect(authorizer.authorize(request)).toMatchObject(denied);
    expect(authorizer.authorizeEgress(request, 'mesh')).toMatchObject(denied);
    expect(authorizer.authorizeEgress(request, 'outside')).toMatchObject(denied);
  });

  test('authorize() allows what the policy allows and denies all else', async () => {
    const { authorizer } = await open(
      'input.caller.path == "/web"; input.request.parsed_path[0] == "invoices"',
    );
    expect(authorizer.authorize(request)).toMatchObject({
      isAllowed: true,
      reason: 'policy_allow',
      policyVersion: 3,
    });
    const other = { ...request, http: { ...request.http!, path: '/refunds' } };
    expect(authorizer.authorize(other)).toMatchObject({
      isAllowed: false,
      reason: 'policy_deny',
      policyVersion: 3,
      httpStatus: 403,
    });
    expect(authorizer.authorize({ ...request, http: null })).toMatchObject({
      isAllowed: false,
      reason: 'policy_deny',
    });
    expect(authorizer.authorize(anonymous)).toMatchObject({ isAllowed: false, reason: 'policy_deny' });
  });

  test('authorize() lets in a caller without identity only where the policy says so', async () => {
    const { authorizer } = await open('not input.caller.spiffe_id');
    expect(authorizer.authorize(anonymous).isAllowed).toBe(true);
    expect(authorizer.authorize(request).isAllowed).toBe(false);
  });

  test('authorize() reads the clock that it is given', async () => {
    const { authorizer, clock } = await open('input.context.hour == 10; time.clock(time.now_ns())[1] == 30');
    expect(authorizer.authorize(request).isAllowed).toBe(false);
    clock.advance(30 * 60_000);
    expect(authorizer.authorize(request).isAllowed).toBe(true);
  });

  test('authorizeEgress() narrows nothing within the mesh, and lets nothing out, where the policy has no egress rule', async () => {
    const { authorizer } = await open('false');
    expect(authorizer.authorizeEgress(request, 'mesh')).toMatchObject({
      isAllowed: true,
      reason: 'policy_allow',
    });
    expect(authorizer.authorizeEgress(request, 'outside')).toMatchObject({
      isAllowed: false,
      reason: 'egress_deny',
    });
  });

  test('authorizeEgress() follows the egress rule inside and outside', async () => {
    const { authorizer } = await open('true', 'egress if input.target.port == 80');
    const outside = { ...request, target: { spiffeId: null, address: '203.0.113.9', port: 443 } };
    expect(authorizer.authorizeEgress(request, 'mesh').isAllowed).toBe(true);
    expect(authorizer.authorizeEgress(outside, 'outside')).toMatchObject({
      isAllowed: false,
      reason: 'egress_deny',
    });
    const same = { ...outside, target: { ...outside.target, port: 80 } };
    expect(authorizer.authorizeEgress(same, 'outside').isAllowed).toBe(true);
  });

  test('denies a request that could be read in two ways, and says why', async () => {
    const { authorizer } = await open('true');
    const climbing = { ...request, http: { ...request.http!, path: '/public/%2e%2e/admin' } };
    expect(authorizer.authorize(climbing)).toMatchObject({
      isAllowed: false,
      reason: 'policy_error',
      message: expect.stringContaining('dot segment') as unknown,
    });
  });

  test('denies where the evaluation fails, tells the caller nothing of it and logs it once in a while', async () => {
    const { authorizer, clock, lines } = await open(
      'true',
      'allow := false if input.request.method == "BREAK"',
    );
    const breaking = { ...request, http: { ...request.http!, method: 'BREAK' } };
    for (let i = 0; i < 5; i++)
      expect(authorizer.authorize(breaking)).toMatchObject({
        isAllowed: false,
        reason: 'policy_error',
        message: 'the policy could not be evaluated',
      });
    expect(lines.length).toBe(1);
    expect(lines[0]).toContain('conflict');
    clock.advance(60_000);
    authorizer.authorize(breaking);
    expect(lines.length).toBe(2);
    expect(authorizer.authorize(request).isAllowed).toBe(true);
  });

  test('watch() tells of another policy, until it is ended', async () => {
    const { authorizer, policy } = await open('true');
    let told = 0;
    const end = authorizer.watch(() => (told += 1));
    policy.set(await load(signer.publish({ condition: 'false' }, 4)));
    expect(told).toBe(1);
    expect(authorizer.authorize(request)).toMatchObject({ isAllowed: false, policyVersion: 4 });
    end();
    policy.set(undefined);
    expect(told).toBe(1);
  });

  test('a decision of a small policy takes well under two milliseconds, and its latency is measured', async () => {
    const policy = new WatchedValue<LoadedPolicy | undefined>(
      await load(signer.publish({ condition: 'input.caller.path == "/web"' }, 3)),
    );
    const log = createLog({ level: 'error', nowMs: () => 0, write: () => {} });
    const authorizer = createAuthorizer({ policy, clock: systemClock, log });
    const latencies = Array.from({ length: 2000 }, () => authorizer.authorize(request).latencyUs).toSorted(
      (a, b) => a - b,
    );
    expect(latencies[1000]).toBeGreaterThan(0);
    expect(latencies[1000]).toBeLessThan(500);
  });
});

test('the terms of what leaves the mesh are none within it, whichever was asked first', async () => {
  // It reads nothing that differs between the two.
  const via = 'spiffe://example.org/gateway';
  const rules = `egress := {"allowed": true, "via": "${via}"}`;
  const outside = { ...request, target: { ...request.target, spiffeId: null }, http: null };
  const within = { ...request, http: null };
  for (const isFirst of [true, false]) {
    const { authorizer } = await open('true', rules);
    const ask = {
      outside: () => authorizer.authorizeEgress(outside, 'outside'),
      mesh: () => authorizer.authorizeEgress(within, 'mesh'),
    };
    if (isFirst) ask.mesh();
    expect(ask.outside()).toMatchObject({ isAllowed: true, terms: { via } });
    expect(ask.mesh()).toMatchObject({ isAllowed: false, reason: 'policy_error' });
    expect(ask.outside()).toMatchObject({ isAllowed: true, terms: { via } });
  }
});
