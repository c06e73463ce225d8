import type { PolicyTargetName } from './policy-target.ts';

/** A policy as its author wrote it: names of files (Rego, data.json or data.yaml, .manifest) to their text. Made by `submission.ts`. */
export type PolicyFiles = Readonly<Record<string, string>>;

/** Rego paths that an artefact answers. */
export interface PolicyEntrypoints {
  readonly allow: string;
  readonly egress?: string;
}

/** A policy that passed the compiler. */
export interface CompiledPolicy {
  readonly artifact: Uint8Array;
  /** SHA-256 of the artefact, lower-case hexadecimal. */
  readonly digest: string;
  readonly entrypoints: PolicyEntrypoints;
  /** How many tests of the policy's own passed. */
  readonly testCount: number;
}

/** One fault of a refused policy. `line` is 0 where the compiler names none. */
export interface PolicyFault {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

/** Why a policy was refused. */
export type PolicyRefusal =
  | 'policy_syntax'
  | 'policy_type'
  | 'policy_test_failed'
  | 'policy_no_entrypoint'
  | 'policy_sample_failed'
  | 'policy_too_big'
  | 'policy_timeout'
  | 'policy_forbidden_builtin';

/** A rule that an evaluation went through to its end. */
export interface FiredRule {
  /** For example data.picket.authz.allow. */
  readonly rule: string;
  readonly file: string;
  readonly line: number;
}

/** What is to be explained. */
export interface ExplainOptions {
  readonly entrypoint: string;
  readonly input: unknown;
  readonly nowMs: number;
}

/** Checks and compiles Rego. Port: the adapter is `opa.ts`, the `opa` executable in a bounded child process. */
export interface PolicyCompiler {
  /**
   * Checks syntax, types (strictly, with the schema of the target's input) and the builtins used, runs the policy's own tests, and builds the
   * artefact. Throws `invalid_argument` with a `PolicyRefusal` as the reason and `details.faults`, a list of `PolicyFault`;
   * `unavailable`, reason `policy_compiler_unavailable`, when the compiler itself cannot run.
   */
  compile(files: PolicyFiles, target: PolicyTargetName): Promise<CompiledPolicy>;
  /** The rules that fire for an input, in order; empty when the account of it passes a limit. Throws like `compile`. */
  explain(files: PolicyFiles, options: ExplainOptions): Promise<readonly FiredRule[]>;
}
