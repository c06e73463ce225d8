import { describe, expect, test } from 'bun:test';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { TestPolicySigner } from '../../tests/kit/policy-rig.ts';
import { loadPolicy } from '../policy/loaded-policy.ts';
import { RememberingLoader, ToldPolicy } from './policy-to-run.ts';
import type { PolicyToRun } from './worker-messages.ts';

const signer = new TestPolicySigner();
const allowing = signer.publish({ condition: 'true' }, 1);
const denying = signer.publish({ condition: 'false' }, 2);

function toRun({ statement, artifact }: typeof allowing): PolicyToRun {
  return { statement, artifact: Buffer.from(artifact).toString('base64') };
}

describe('RememberingLoader', () => {
  test('knows what an engine was loaded from, and nothing of others', async () => {
    const loader = new RememberingLoader(createOpaWasmLoader());
    const loaded = await loadPolicy(loader, allowing, 0);
    expect(loader.artifactOf(loaded)).toEqual(allowing.artifact);
    const foreign = await loadPolicy(createOpaWasmLoader(), allowing, 0);
    expect(() => loader.artifactOf(foreign)).toThrow(TypeError);
  });
});

describe('ToldPolicy', () => {
  test('puts policies in force in the order in which they were told, and takes them away', async () => {
    const told = new ToldPolicy({ loader: createOpaWasmLoader(), clock: systemClock });
    const seen: (number | undefined)[] = [];
    told.policy.watch((policy) => seen.push(policy?.statement.sequence));
    await Promise.all([told.take(toRun(allowing)), told.take(toRun(denying)), told.take(null)]);
    expect(seen).toEqual([1, 2, undefined]);
  });

  test('takes none that cannot be loaded: whoever told it must end', async () => {
    const told = new ToldPolicy({ loader: createOpaWasmLoader(), clock: systemClock });
    const refusal = await refusalOf(told.take({ ...toRun(allowing), artifact: 'AAAA' }));
    expect(refusal.reason).toBe('policy_artifact_invalid');
    expect(told.policy.current).toBeUndefined();
  });
});
