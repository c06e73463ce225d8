import { describe, expect, test } from 'bun:test';
import { buildPolicy } from '../../tests/kit/build-policy.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import type { DecisionUser, KnownUser } from '../../shared/policy/circumstances.ts';
import type { DecisionRequest, Verdict } from '../../shared/policy/decision.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import type { InputPath } from '../../shared/policy/policy-bundle.ts';
import type { PolicyEngine } from '../../shared/policy/policy-engine.ts';
import { createLog } from '../../shared/runtime/log.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { parseTrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { createAuthorizer, type AuthorizerOptions } from './authorize.ts';
import type { Authorizer } from './authorizer.ts';
import { DecisionCache } from './decision-cache.ts';
import { loadPolicy, type LoadedPolicy } from './loaded-policy.ts';

const READS: readonly InputPath[] = [
  ['caller', 'path'],
  ['request', 'method'],
  ['request', 'headers', 'x-team'],
];
const REGO = `package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	input.request.method == "GET"
	not input.request.headers["x-team"] == "blocked"
}
`;

const base: DecisionRequest = {
  decisionId: 'd',
  caller: {
    spiffeId: parseSpiffeId('spiffe://example.org/web'),
    address: '10.0.0.1',
    port: 4000,
    certificateNotAfterMs: 1,
  },
  target: { spiffeId: parseSpiffeId('spiffe://example.org/invoices'), address: '10.0.0.2', port: 80 },
  http: { method: 'GET', path: '/invoices', host: 'h', headers: {} },
};

/** How often the module was really asked. */
interface Rig {
  readonly authorizer: Authorizer;
  readonly policy: WatchedValue<LoadedPolicy | undefined>;
  readonly evaluations: () => number;
}

async function open(
  reads: readonly InputPath[] | undefined,
  rego = REGO,
  more: Pick<AuthorizerOptions, 'users' | 'networks'> = {},
): Promise<Rig> {
  let evaluations = 0;
  const policy = new WatchedValue<LoadedPolicy | undefined>(
    await load(rego, reads, () => (evaluations += 1)),
  );
  evaluations = 0;
  const log = createLog({ level: 'error', nowMs: () => 0, write: () => undefined });
  const authorizer = createAuthorizer({ policy, clock: new FakeClock(), log, ...more });
  return { authorizer, policy, evaluations: () => evaluations };
}

async function load(
  rego: string,
  reads: readonly InputPath[] | undefined,
  onEvaluate: () => void,
): Promise<LoadedPolicy> {
  const artifact = buildPolicy({ rego, ...(reads === undefined ? {} : { reads }) });
  const statement = {
    trustDomain: parseTrustDomain('example.org'),
    target: 'mesh',
    sequence: 1,
    version: 1,
    digest: '',
    entrypoints: { allow: 'picket/authz/allow' },
    issuedAt: '2026-11-28T09:00:00.000Z',
  };
  const loader = createOpaWasmLoader();
  const counting = { load: async (bytes: Uint8Array) => countCalls(await loader.load(bytes), onEvaluate) };
  return await loadPolicy(counting, { statement, artifact }, 0);
}

function countCalls(engine: PolicyEngine, onEvaluate: () => void): PolicyEngine {
  return {
    entrypoints: engine.entrypoints,
    reads: engine.reads,
    evaluate: (...question) => {
      onEvaluate();
      return engine.evaluate(...question);
    },
  };
}

const asking = (change: Partial<NonNullable<DecisionRequest['http']>>): DecisionRequest => ({
  ...base,
  http: { method: 'GET', path: '/invoices', host: 'h', headers: {}, ...change },
});
const withoutTime = (verdict: Verdict): Verdict => ({ ...verdict, latencyUs: 0 });

describe('DecisionCache', () => {
  test('answers what it knows without asking the policy again', async () => {
    const { authorizer, evaluations } = await open(READS);
    const first = authorizer.authorize(base);
    expect(withoutTime(authorizer.authorize(base))).toEqual(withoutTime(first));
    expect(authorizer.authorize(asking({ path: '/other', host: 'other' })).isAllowed).toBe(true);
    expect(
      authorizer.authorize({ ...base, http: { ...base.http!, headers: { accept: '*/*' } } }).isAllowed,
    ).toBe(true);
    expect(evaluations()).toBe(1);
  });

  test('asks again where anything differs that the policy reads, also by being absent', async () => {
    const { authorizer, evaluations } = await open(READS);
    expect(authorizer.authorize(base).isAllowed).toBe(true);
    expect(authorizer.authorize(asking({ method: 'POST' })).isAllowed).toBe(false);
    expect(authorizer.authorize(asking({ headers: { 'x-team': 'blocked' } })).isAllowed).toBe(false);
    expect(authorizer.authorize(asking({ headers: { 'x-team': '' } })).isAllowed).toBe(true);
    const other = { ...base.caller, spiffeId: parseSpiffeId('spiffe://example.org/other') };
    expect(authorizer.authorize({ ...base, caller: other }).isAllowed).toBe(false);
    expect(authorizer.authorize({ ...base, caller: { ...base.caller, spiffeId: null } }).isAllowed).toBe(
      false,
    );
    expect(evaluations()).toBe(6);
  });

  test('the same request object between other ends is another question', async () => {
    const { authorizer } = await open(
      [...READS, ['target', 'port']],
      REGO.replace('input.caller', 'input.target.port == 80\n\tinput.caller'),
    );
    expect(authorizer.authorize(base).isAllowed).toBe(true);
    expect(authorizer.authorize({ ...base, target: { ...base.target, port: 81 } }).isAllowed).toBe(false);
    expect(authorizer.authorize(base).isAllowed).toBe(true);
  });

  test('nothing of it outlives the policy', async () => {
    const { authorizer, policy } = await open(READS);
    expect(authorizer.authorize(base).isAllowed).toBe(true);
    policy.set(await load(REGO.replace('"GET"', '"PUT"'), READS, () => undefined));
    expect(authorizer.authorize(base).isAllowed).toBe(false);
  });

  test('a user whose token ended, or who is another, is another question, on the very same request too', async () => {
    const known = (id: string): KnownUser => ({
      kind: 'known',
      id,
      issuer: 'i',
      subject: id,
      audience: [],
      groups: [],
      claims: {},
      expiresMs: 1,
    });
    let user: DecisionUser = known('corp:alice');
    const rego = 'package picket.authz\n\ndefault allow := false\n\nallow if input.user.id == "corp:alice"\n';
    const users = { identify: () => user };
    const { authorizer, evaluations } = await open([['user', 'id']], rego, { users });
    expect(authorizer.authorize(base).isAllowed).toBe(true);
    expect(authorizer.authorize(base).isAllowed).toBe(true);
    expect(evaluations()).toBe(1);
    user = { kind: 'unknown', reason: 'expired' };
    expect(authorizer.authorize(base).isAllowed).toBe(false);
    user = known('corp:mallory');
    expect(authorizer.authorize(base).isAllowed).toBe(false);
    expect(authorizer.changesWithTime).toBe(true);
  });

  test('a policy that reads no user asks for none, nor one for networks that reads none', async () => {
    const asked: string[] = [];
    const users = {
      identify: (): DecisionUser => {
        asked.push('user');
        return { kind: 'unknown', reason: 'no_token' };
      },
    };
    const networks = {
      locate: () => {
        asked.push('networks');
        return { office: true };
      },
    };
    const { authorizer } = await open(READS, REGO, { users, networks });
    expect(authorizer.authorize(base).isAllowed).toBe(true);
    expect(asked).toEqual([]);
    expect(authorizer.changesWithTime).toBe(false);
    const rego = 'package picket.authz\n\ndefault allow := false\n\nallow if input.context.networks.office\n';
    const located = await open([['context', 'networks', 'office']], rego, { users, networks });
    expect(located.authorizer.authorize(base).isAllowed).toBe(true);
    expect(asked).toEqual(['networks']);
    // Of one whose reads are not known all is asked.
    const unknown = await open(undefined, rego, { users, networks });
    expect(unknown.authorizer.authorize(base).isAllowed).toBe(true);
    expect(asked).toEqual(['networks', 'user', 'networks']);
    expect(unknown.authorizer.changesWithTime).toBe(true);
  });

  test.each(['input.context.hour >= 0', 'input.attributes.request.time != ""', 'time.now_ns() > 0'])(
    'a policy that reads %p changes with time, and none of its verdicts is kept',
    async (condition) => {
      const rego = `package picket.authz\n\ndefault allow := false\n\nallow if ${condition}\n`;
      const reads = condition.startsWith('input') ? [condition.split(' ')[0]!.split('.').slice(1)] : [];
      const { authorizer, evaluations } = await open(reads, rego);
      for (let i = 1; i <= 3; i++) {
        expect(authorizer.authorize(base).isAllowed).toBe(true);
        expect(evaluations()).toBe(i);
      }
      expect(authorizer.changesWithTime).toBe(true);
    },
  );

  test('an evaluation that failed is not kept', async () => {
    const conflict =
      'package picket.authz\n\nallow := x if {\n\tsome x in [true, false]\n\tinput.request.path == "/conflict"\n}\n';
    const { authorizer, evaluations } = await open([['request', 'path']], conflict);
    for (let i = 1; i <= 2; i++) {
      expect(authorizer.authorize(asking({ path: '/conflict' }))).toMatchObject({ reason: 'policy_error' });
      expect(evaluations()).toBe(i);
    }
  });

  test('random requests get the verdict that they get without it', async () => {
    const cached = await open(READS);
    const fresh = await open(undefined);
    const pick = <T>(...from: readonly T[]): T => from[Math.floor(Math.random() * from.length)]!;
    for (let i = 0; i < 2000; i++) {
      const team = pick<Record<string, string>>(
        {},
        { 'x-team': 'blocked' },
        { 'x-team': 'a' },
        { 'x-other': 'blocked' },
      );
      const request = asking({
        method: pick('GET', 'POST', 'get'),
        path: pick('/a', '/b?x=1'),
        headers: team,
      });
      const id = pick('spiffe://example.org/web', 'spiffe://example.org/web/x', 'spiffe://other.org/web');
      const asked = { ...request, caller: { ...base.caller, spiffeId: parseSpiffeId(id), port: i } };
      expect(withoutTime(cached.authorizer.authorize(asked))).toEqual(
        withoutTime(fresh.authorizer.authorize(asked)),
      );
    }
    expect(cached.evaluations()).toBeLessThan(60);
    expect(fresh.evaluations()).toBe(2000);
  });

  test.each<[string, readonly InputPath[] | undefined]>([
    ['what it reads is not known', undefined],
    ['it reads the whole input', [[]]],
    ['it reads the time of day', [['context', 'hour']]],
    ['it reads the whole context', [['context']]],
    ['it reads the id of the decision', [['context', 'decision_id']]],
    ["it reads Envoy's time of the request", [['attributes', 'request']]],
    ["it reads within Envoy's time", [['attributes', 'request', 'time', 'seconds']]],
  ])('there is none where %s', (_, reads) => {
    expect(DecisionCache.for(reads)).toBeUndefined();
  });

  test('there is one where the direction is read, or nothing at all', () => {
    expect(DecisionCache.for([['context', 'direction']])).toBeDefined();
    expect(DecisionCache.for([])).toBeDefined();
  });
});
