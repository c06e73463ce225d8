import { z } from 'zod';
import adminJson from '../../policies/samples/admin.json' with { type: 'json' };
import meshJson from '../../policies/samples/mesh.json' with { type: 'json' };
import type { DecisionRequest } from '../../shared/policy/decision.ts';
import { buildPolicyInput, type DecisionContext } from '../../shared/policy/policy-input.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';
import { findResultFault, toVerdict } from '../../shared/policy/verdict.ts';
import { spiffeId } from '../../shared/protocol/wire-values.ts';
import { buildAdminInput } from './admin-input.ts';
import { evaluateInSandbox, type SandboxCase, type SandboxResult } from './policy-sandbox.ts';
import type { CompiledPolicy, PolicyFault } from './policy-compiler.ts';
import { refusePolicy } from './policy-refusal.ts';
import type { PolicyTargetName } from './policy-target.ts';

const meshSample = z.strictObject({
  name: z.string(),
  caller: spiffeId.nullable(),
  target: spiffeId.nullable(),
  domain: z.string().exactOptional(),
  tls: z.strictObject({ serverName: z.string(), alpn: z.array(z.string()) }).exactOptional(),
  http: z
    .strictObject({
      protocol: z.literal('HTTP/2').exactOptional(),
      method: z.string(),
      path: z.string(),
      host: z.string(),
      headers: z.record(z.string(), z.string()),
    })
    .nullable(),
});

const adminSample = z.strictObject({
  name: z.string(),
  operator: z.strictObject({ name: z.string(), spiffe_id: spiffeId, roles: z.array(z.string()) }),
  action: z.string(),
  subject: z.string(),
});

/** A request that every policy must be able to answer. */
interface Sample {
  readonly name: string;
  readonly file: string;
  readonly inputFor: (direction: DecisionContext['direction']) => PolicyInput;
  /** Allowing it deserves a warning. */
  readonly isAnonymous: boolean;
}

/**
 * Evaluates the samples of the target with the engine of the agents. Throws `invalid_argument`: `policy_sample_failed` when one fails or gives
 * neither a boolean nor an object, `policy_timeout`. Returns warnings for people.
 */
export async function requireSamples(
  compiled: CompiledPolicy,
  options: { readonly target: PolicyTargetName; readonly nowMs: number },
): Promise<readonly string[]> {
  const { entrypoints, artifact } = compiled;
  const samples =
    options.target === 'mesh' ? readMeshSamples(options.nowMs) : readAdminSamples(options.nowMs);
  const runs = samples.flatMap((sample) =>
    Object.values(entrypoints).map((entrypoint: string) => ({ sample, entrypoint })),
  );
  const cases: readonly SandboxCase[] = runs.map(({ sample, entrypoint }) => ({
    entrypoint,
    input: sample.inputFor(entrypoint === entrypoints.egress ? 'outbound' : 'inbound'),
    nowMs: options.nowMs,
  }));
  const results = await evaluateInSandbox({ artifact, cases });
  const judged = runs.map((run, i) => ({ ...run, result: results[i] }));
  const faults = judged.flatMap(({ sample, entrypoint, result }) => {
    const fault = findFault(result);
    return fault === undefined ? [] : [describeFault({ sample, entrypoint, fault })];
  });
  if (faults.length > 0) throw refusePolicy('policy_sample_failed', faults);
  return judged
    .filter(
      ({ sample, entrypoint, result }) =>
        sample.isAnonymous && entrypoint === entrypoints.allow && isAllowed(result),
    )
    .map(({ sample }) => `it allows ${sample.name}`);
}

function readMeshSamples(nowMs: number): readonly Sample[] {
  return z
    .array(meshSample)
    .parse(meshJson)
    .map(({ name, caller, target, domain, tls, http }) => {
      const request: DecisionRequest = {
        decisionId: 'sample',
        caller: {
          spiffeId: caller,
          address: '192.0.2.1',
          port: 40_000,
          certificateNotAfterMs: caller === null ? 0 : nowMs + 3_600_000,
        },
        target: {
          spiffeId: target,
          address: '192.0.2.2',
          port: 8080,
          ...(domain === undefined ? {} : { domain }),
        },
        http,
        ...(tls === undefined ? {} : { tls }),
      };
      return {
        name,
        file: 'samples/mesh.json',
        inputFor: (direction) => buildPolicyInput(request, { nowMs, direction }),
        isAnonymous: caller === null,
      };
    });
}

function readAdminSamples(nowMs: number): readonly Sample[] {
  return z
    .array(adminSample)
    .parse(adminJson)
    .map(({ name, operator, action, subject }) => ({
      name,
      file: 'samples/admin.json',
      inputFor: () => buildAdminInput({ operator: { ...operator, uid: null }, action, subject }, nowMs),
      isAnonymous: operator.roles.length === 0,
    }));
}

function findFault(result: SandboxResult | undefined): string | undefined {
  if (result === undefined) return 'it was not evaluated';
  return result.isOk ? findResultFault(result.value) : result.message;
}

function describeFault(options: {
  readonly sample: Sample;
  readonly entrypoint: string;
  readonly fault: string;
}): PolicyFault {
  const { sample, entrypoint, fault } = options;
  return { file: sample.file, line: 0, message: `${entrypoint} for the sample "${sample.name}": ${fault}` };
}

function isAllowed(result: SandboxResult | undefined): boolean {
  if (result?.isOk !== true) return false;
  return toVerdict(result.value, { denyReason: 'policy_deny', policyVersion: null, latencyUs: 0 }).isAllowed;
}
