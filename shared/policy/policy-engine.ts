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
