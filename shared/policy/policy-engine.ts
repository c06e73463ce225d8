import type { InputPath } from './policy-bundle.ts';

/** The input document of a decision; built by `policy-input.ts`, described by `policies/schema/input.json`. */
export type PolicyInput = Readonly<Record<string, unknown>>;

/**
 * A compiled policy, ready to answer. An engine holds no clock and no files: `nowMs` feeds the time builtins.
 * Port: adapters are `opa-wasm.ts` and, later, the compiled plan; `contract.ts` is the suite for each.
 */
export interface PolicyEngine {
  /** The Rego paths that the policy answers, for example picket/authz/allow. */
  readonly entrypoints: readonly string[];
  /**
   * The parts of the input that every answer depends on, and on nothing else: the same values give the same answer. Undefined where that is not known, and for a
   * policy that reads the clock.
   */
  readonly reads: readonly InputPath[] | undefined;
  /**
   * The value of an entry point for `input`, or undefined when it has none. Throws PicketError `internal` with reason `policy_error` when
   * the evaluation fails or passes a limit. The caller takes undefined and any throw for a denial.
   */
  evaluate(entrypoint: string, input: PolicyInput, nowMs: number): unknown;
}

/** Makes engines out of artefacts. Throws PicketError `invalid_argument`, reason `policy_artifact_invalid`, for bytes that it cannot load. */
export interface PolicyEngineLoader {
  /** `artifact`: a gzip-compressed OPA bundle with /policy.wasm and /data.json. It is bounded in size before and after decompression. */
  load(artifact: Uint8Array): Promise<PolicyEngine>;
}
