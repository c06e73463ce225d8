import { describe, expect, test } from 'bun:test';
import { buildPolicy } from '../../tests/kit/build-policy.ts';
import { evaluateInSandbox } from './policy-sandbox.ts';

const entrypoint = 'picket/authz/allow';
// Loops over an input end at the limit of memory; a search for a long text in a longer one takes time alone.
const slow = 'package picket.authz\n\nallow if contains(input.text, input.part)\n';

describe('evaluateInSandbox()', () => {
  test('evaluates every case, and keeps the failure of one from the others', async () => {
    const artifact = buildPolicy({
      rego: 'package picket.authz\n\nallow := "a" if input.a\n\nallow := "b" if input.b\n',
    });
    const cases = [{ a: true }, { a: true, b: true }, {}].map((input) => ({ entrypoint, input, nowMs: 0 }));
    const results = await evaluateInSandbox({ artifact, cases });
    expect(results).toMatchObject([
      { isOk: true, value: 'a' },
      { isOk: false, message: expect.stringContaining('conflict') as unknown },
      { isOk: true, value: undefined },
    ]);
  });

  test('stops an evaluation that takes too long', async () => {
    const artifact = buildPolicy({ rego: slow });
    const input = { text: 'a'.repeat(1_000_000), part: `${'a'.repeat(300_000)}b` };
    const startedMs = performance.now();
    const error = await evaluateInSandbox({ artifact, cases: [{ entrypoint, input, nowMs: 0 }] }).catch(
      (cause: unknown) => cause,
    );
    expect(error).toMatchObject({ code: 'invalid_argument', reason: 'policy_timeout' });
    expect(performance.now() - startedMs).toBeLessThan(30_000);
  }, 60_000);

  test('refuses bytes that are no artefact', async () => {
    const error = await evaluateInSandbox({ artifact: new Uint8Array(8), cases: [] }).catch(
      (cause: unknown) => cause,
    );
    expect(error).toMatchObject({ reason: 'policy_artifact_invalid' });
  });
});
