import { describe, expect, test } from 'bun:test';
import { buildPolicy } from '../../tests/kit/build-policy.ts';
import { describePolicyEngine } from './contract.ts';
import { createOpaWasmLoader } from './opa-wasm.ts';
import { buildPolicyBundle, readPolicyBundle } from './policy-bundle.ts';

describePolicyEngine('createOpaWasmLoader()', createOpaWasmLoader());

describe('createOpaWasmLoader()', () => {
  const loader = createOpaWasmLoader();
  const artifact = buildPolicy({
    rego: 'package picket.authz\n\ndefault allow := false\n\nallow if input.a == "é\\u0000\\""\n',
  });

  test('load() refuses a module that is not wasm and data that is not JSON', async () => {
    const { wasm, data } = readPolicyBundle(artifact);
    const broken = [
      { wasm: new Uint8Array([0, 1, 2, 3]), data },
      { wasm, data: Buffer.from('{"a":') },
    ];
    for (const bundle of broken)
      expect(await loader.load(buildPolicyBundle(bundle)).catch((error: unknown) => error)).toMatchObject({
        reason: 'policy_artifact_invalid',
      });
  });

  test('evaluate() carries text of every kind', async () => {
    const engine = await loader.load(artifact);
    expect(engine.evaluate('picket/authz/allow', { a: 'é\u0000"' }, 0)).toBe(true);
    expect(() => engine.evaluate('picket/authz/allow', { a: '\ud800' }, 0)).toThrow('escape');
  });
});
