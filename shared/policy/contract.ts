import { describe, expect, test } from 'bun:test';
import { buildPolicy } from '../../tests/kit/build-policy.ts';
import { PicketError } from '../errors/errors.ts';
import type { PolicyEngine, PolicyEngineLoader } from './policy-engine.ts';

const NOW_MS = Date.UTC(2026, 10, 23, 9, 30, 0, 123);

const REGO = `package picket.authz

default allow := false

allow if input.caller.spiffe_id in data.picket.callers

allow if {
	input.method == "GET"
	not input.blocked
}

egress := {"allowed": false, "http_status": 451, "reason": sprintf("not to %s", [input.host])}

now := time.now_ns()

missing if input.nothing

items contains n if some n in numbers.range(1, input.n)

conflict := 1 if input.one

conflict := 2 if input.two
`;

const ENTRYPOINTS = ['allow', 'egress', 'now', 'missing', 'items', 'conflict'].map(
  (r) => `picket/authz/${r}`,
);

/** What every engine promises (policy-engine.ts). */
export function describePolicyEngine(name: string, loader: PolicyEngineLoader): void {
  describe(`${name} as a policy engine`, () => {
    const artifact = buildPolicy({
      rego: REGO,
      data: { picket: { callers: ['spiffe://example.org/a'] } },
      entrypoints: ENTRYPOINTS,
    });
    const load = (): Promise<PolicyEngine> => loader.load(artifact);
    const evaluate = async (rule: string, input: Record<string, unknown>): Promise<unknown> =>
      (await load()).evaluate(`picket/authz/${rule}`, input, NOW_MS);

    test('entrypoints names every rule that was built', async () => {
      expect((await load()).entrypoints.toSorted()).toEqual(ENTRYPOINTS.toSorted());
    });

    test('evaluate() decides by input and by data', async () => {
      const engine = await load();
      const decide = (input: Record<string, unknown>): unknown =>
        engine.evaluate('picket/authz/allow', input, NOW_MS);
      expect(decide({ caller: { spiffe_id: 'spiffe://example.org/a' } })).toBe(true);
      expect(decide({ caller: { spiffe_id: 'spiffe://example.org/b' } })).toBe(false);
      expect(decide({ method: 'GET' })).toBe(true);
      expect(decide({ method: 'GET', blocked: true })).toBe(false);
      expect(decide({})).toBe(false);
    });

    test('evaluate() gives objects as they are', async () => {
      expect(await evaluate('egress', { host: 'example.com' })).toEqual({
        allowed: false,
        http_status: 451,
        reason: 'not to example.com',
      });
    });

    test('evaluate() gives undefined for a rule without a value', async () => {
      expect(await evaluate('missing', {})).toBeUndefined();
    });

    test('evaluate() tells the time that it is given, to the millisecond', async () => {
      expect(await evaluate('now', {})).toBe(NOW_MS * 1_000_000);
    });

    test('evaluate() throws policy_error for a conflict, an unknown entry point and a limit, and answers afterwards', async () => {
      const engine = await load();
      const reason = (run: () => unknown): string | undefined => {
        try {
          run();
          return undefined;
        } catch (error) {
          return error instanceof PicketError ? `${error.code}/${error.reason}` : String(error);
        }
      };
      expect(reason(() => engine.evaluate('picket/authz/conflict', { one: true, two: true }, NOW_MS))).toBe(
        'internal/policy_error',
      );
      expect(reason(() => engine.evaluate('picket/authz/nothing', {}, NOW_MS))).toBe('internal/policy_error');
      expect(reason(() => engine.evaluate('picket/authz/items', { n: 3_000_000 }, NOW_MS))).toBe(
        'internal/policy_error',
      );
      expect(engine.evaluate('picket/authz/allow', { method: 'GET' }, NOW_MS)).toBe(true);
      expect(engine.evaluate('picket/authz/items', { n: 3 }, NOW_MS)).toEqual([1, 2, 3]);
    });

    test('evaluate() answers right however often it failed before', async () => {
      const engine = await load();
      const fail = (): unknown => engine.evaluate('picket/authz/conflict', { one: true, two: true }, NOW_MS);
      for (let i = 0; i < 1500; i++) expect(fail).toThrow('conflict');
      expect(engine.evaluate('picket/authz/allow', { method: 'GET' }, NOW_MS)).toBe(true);
      expect(engine.evaluate('picket/authz/allow', { method: 'PUT' }, NOW_MS)).toBe(false);
    });

    test('load() refuses bytes that are no artefact', async () => {
      const cut = artifact.slice(0, artifact.length >> 1);
      for (const bytes of [new Uint8Array(), new Uint8Array(64), cut])
        expect(await refusalOf(loader.load(bytes))).toMatchObject({
          code: 'invalid_argument',
          reason: 'policy_artifact_invalid',
        });
    });

    test('load() refuses a policy that asks for a builtin that is not supported', async () => {
      const calling = buildPolicy({
        rego: 'package picket.authz\n\nallow if http.send({"url": input.url, "method": "get"}).status_code == 200\n',
      });
      expect(await refusalOf(loader.load(calling))).toMatchObject({
        reason: 'policy_artifact_invalid',
        message: expect.stringContaining('http.send') as unknown,
      });
    });
  });
}

async function refusalOf(loading: Promise<PolicyEngine>): Promise<unknown> {
  return await loading.then(
    () => undefined,
    (error: unknown) => error,
  );
}
