import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { SUPPORTED_BUILTINS } from '../../shared/policy/builtins/supported-builtins.ts';
import {
  buildPolicyBundle,
  MAX_ARTIFACT_BYTES,
  MAX_READS,
  readTarGz,
  type InputPath,
} from '../../shared/policy/policy-bundle.ts';
import { ChildLimitError, runBoundedChild, type ChildResult } from './bounded-child.ts';
import { withWorkspace, type CompilerWorkspace } from './compiler-workspace.ts';
import { findTestResults, readErrors, findInputPaths, readFiredRules } from './opa-output.ts';
import type {
  CompiledPolicy,
  ExplainOptions,
  FiredRule,
  PolicyCompiler,
  PolicyEntrypoints,
  PolicyFiles,
} from './policy-compiler.ts';
import { refusePolicy } from './policy-refusal.ts';
import { POLICY_TARGETS, type PolicyTarget, type PolicyTargetName } from './policy-target.ts';

/** Each step of a publication; 10,000 rules take 3.2 s of CPU to build. */
const STEP_MS = 30_000;
const EXPLAIN_MS = 10_000;

/** 1 GiB; 10,000 rules take 500 MB. */
const MEMORY_KIB = 1_048_576;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const MAX_TRACE_BYTES = 32 * 1024 * 1024;
const MAX_WAITING = 8;

/** What `opa build` may put into its archive. */
const BUILD_LIMITS = { maxFiles: 1024, maxFileBytes: 32 * 1024 * 1024, maxBytes: 96 * 1024 * 1024 };

const capabilities = z.looseObject({ builtins: z.array(z.looseObject({ name: z.string() })) });

/** OPA's own capabilities, and those left to policies. */
interface Capabilities {
  readonly known: ReadonlySet<string>;
  /** JSON for `--capabilities`: no builtin beyond those that the agents' engine answers, no network. */
  readonly allowed: string;
}

/**
 * The `opa` executable as policy compiler. Each step is a child process with an empty environment, bounded in time, memory and output, in a
 * folder of its own; one policy is compiled at a time.
 */
export class OpaCompiler implements PolicyCompiler {
  readonly #executable: string;
  readonly #temporaryFolder: string;
  #capabilities: Promise<Capabilities> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: { readonly executable: string; readonly temporaryFolder: string }) {
    this.#executable = options.executable;
    this.#temporaryFolder = options.temporaryFolder;
  }

  async compile(files: PolicyFiles, targetName: PolicyTargetName): Promise<CompiledPolicy> {
    const target = POLICY_TARGETS[targetName];
    return await this.#inWorkspace(files, async (workspace) => {
      const allowed = await workspace.write('capabilities.json', (await this.#readCapabilities()).allowed);
      const schema = await workspace.write('schema.json', JSON.stringify(target.schema));
      await this.#check(workspace, { allowed, schema });
      const testCount = await this.#test(workspace, allowed);
      const entrypoints = await this.#build(workspace, { allowed, target });
      const reads = await this.#findReads(workspace, entrypoints);
      const artifact = await readArtifact(join(workspace.folder, BUILD_OUTPUT), reads);
      const digest = createHash('sha256').update(artifact).digest('hex');
      return { artifact, digest, entrypoints, testCount };
    });
  }

  async explain(files: PolicyFiles, options: ExplainOptions): Promise<readonly FiredRule[]> {
    const query = `data.${options.entrypoint.replaceAll('/', '.')} with time.now_ns as ${Math.floor(options.nowMs)}000000`;
    return await this.#inWorkspace(files, async (workspace) => {
      const allowed = await workspace.write('capabilities.json', (await this.#readCapabilities()).allowed);
      const input = await workspace.write('input.json', JSON.stringify(options.input));
      const flags = ['--capabilities', allowed, '--input', input, '--explain', 'full', '--format', 'json'];
      try {
        const limits = { timeoutMs: EXPLAIN_MS, maxOutputBytes: MAX_TRACE_BYTES };
        const result = await this.#run(workspace, ['eval', '--bundle', '.', ...flags, query], limits);
        return readFiredRules(result.stdout, files);
      } catch (error) {
        if (error instanceof ChildLimitError) return [];
        throw error;
      }
    });
  }

  async #check(
    workspace: CompilerWorkspace,
    paths: { readonly allowed: string; readonly schema: string },
  ): Promise<void> {
    const flags = ['--capabilities', paths.allowed, '--schema', paths.schema, '--format', 'json'];
    const result = await this.#step(workspace, ['check', '--strict', '--bundle', ...flags, '.']);
    if (result.exitCode !== 0) throw await this.#refuse(result);
  }

  async #test(workspace: CompilerWorkspace, allowed: string): Promise<number> {
    const flags = ['--capabilities', allowed, '--timeout', '2s', '--format', 'json'];
    const result = await this.#step(workspace, ['test', '--bundle', ...flags, '.']);
    const tests = findTestResults(result.stdout);
    if (tests !== undefined && tests.faults.length > 0)
      throw refusePolicy('policy_test_failed', tests.faults);
    if (result.exitCode !== 0) throw await this.#refuse(result);
    return tests?.passed ?? 0;
  }

  /** Builds with the first package that has the rule `allow`, and with its `egress` where it has one. */
  async #build(
    workspace: CompilerWorkspace,
    options: { readonly allowed: string; readonly target: PolicyTarget },
  ): Promise<PolicyEntrypoints> {
    for (const entrypoints of entrypointsOf(options.target)) {
      const flags = ['--capabilities', options.allowed, '--ignore', '*_test.rego', '--target', 'wasm'];
      const rules = Object.values(entrypoints).flatMap((rule: string) => ['--entrypoint', rule]);
      const output = ['--output', join('..', BUILD_OUTPUT)];
      const result = await this.#step(workspace, ['build', '--bundle', ...flags, ...rules, ...output, '.']);
      if (result.exitCode === 0) return entrypoints;
      if (!/does not refer to a rule|undefined entrypoint/.test(errorText(result)))
        throw await this.#refuse(result);
    }
    const message = `no package ${options.target.packages.map((name) => name.replace('/', '.')).join(' or ')} has a rule "allow"`;
    throw refusePolicy('policy_no_entrypoint', [{ file: '', line: 0, message }]);
  }

  /** The parts of the input that the entry points depend on, by OPA's own analysis; undefined where it tells of none or of too many. */
  async #findReads(
    workspace: CompilerWorkspace,
    entrypoints: PolicyEntrypoints,
  ): Promise<readonly InputPath[] | undefined> {
    const paths: InputPath[] = [];
    for (const rule of [entrypoints.allow, entrypoints.egress]) {
      if (rule === undefined) continue;
      const query = `data.${rule.replaceAll('/', '.')}`;
      const flags = ['--ignore', '*_test.rego', '--format', 'json'];
      const result = await this.#step(workspace, ['deps', '--bundle', '.', ...flags, query]);
      const found = result.exitCode === 0 ? findInputPaths(result.stdout) : undefined;
      if (found === undefined) return undefined;
      paths.push(...found);
    }
    return paths.length > MAX_READS ? undefined : paths;
  }

  async #refuse(result: ChildResult): Promise<PicketError> {
    if (result.exitCode === null || /^(?:runtime|fatal error): /m.test(result.stderr))
      return refusePolicy('policy_too_big', [
        { file: '', line: 0, message: 'it takes too much memory or time to compile' },
      ]);
    const { known } = await this.#readCapabilities();
    const { reason, faults } = readErrors(
      errorText(result),
      (name) => known.has(name) && !SUPPORTED_BUILTINS.has(name),
    );
    return refusePolicy(reason, faults);
  }

  async #step(workspace: CompilerWorkspace, arguments_: readonly string[]): Promise<ChildResult> {
    try {
      return await this.#run(workspace, arguments_, { timeoutMs: STEP_MS, maxOutputBytes: MAX_OUTPUT_BYTES });
    } catch (error) {
      if (!(error instanceof ChildLimitError)) throw error;
      const reason = error.excess === 'time' ? 'policy_timeout' : 'policy_too_big';
      throw refusePolicy(reason, [{ file: '', line: 0, message: `opa ${arguments_[0]}: ${error.message}` }]);
    }
  }

  async #run(
    workspace: Pick<CompilerWorkspace, 'folder' | 'bundle'>,
    arguments_: readonly string[],
    limits: { readonly timeoutMs: number; readonly maxOutputBytes: number },
  ): Promise<ChildResult> {
    return await runBoundedChild({
      command: [this.#executable, ...arguments_],
      cwd: workspace.bundle,
      env: {
        HOME: workspace.folder,
        TMPDIR: workspace.folder,
        GOMEMLIMIT: `${Math.floor(MEMORY_KIB * 0.8)}KiB`,
        GOMAXPROCS: '2',
      },
      limits: { ...limits, memoryKib: MEMORY_KIB },
    });
  }

  async #readCapabilities(): Promise<Capabilities> {
    this.#capabilities ??= this.#fetchCapabilities();
    try {
      return await this.#capabilities;
    } catch (error) {
      this.#capabilities = undefined;
      throw error;
    }
  }

  async #fetchCapabilities(): Promise<Capabilities> {
    const folder = this.#temporaryFolder;
    const limits = { timeoutMs: STEP_MS, maxOutputBytes: MAX_OUTPUT_BYTES };
    try {
      const result = await this.#run({ folder, bundle: folder }, ['capabilities', '--current'], limits);
      const current = capabilities.parse(JSON.parse(result.stdout));
      const builtins = current.builtins.filter(({ name }) => SUPPORTED_BUILTINS.has(name));
      return {
        known: new Set(current.builtins.map(({ name }) => name)),
        allowed: JSON.stringify({ ...current, builtins, allow_net: [] }),
      };
    } catch (cause) {
      throw new PicketError(
        'unavailable',
        'policy_compiler_unavailable',
        `Cannot run the policy compiler "${this.#executable}": install opa or name it in the configuration`,
        { cause },
      );
    }
  }

  /** Waits for its turn: a compilation takes up to a core and a gigabyte. */
  async #inWorkspace<T>(files: PolicyFiles, work: (workspace: CompilerWorkspace) => Promise<T>): Promise<T> {
    if (this.#waiting >= MAX_WAITING)
      throw new PicketError(
        'resource_exhausted',
        'policy_compiler_busy',
        'Too many policies wait for the compiler',
      );
    this.#waiting += 1;
    const run = this.#last.then(async () =>
      withWorkspace({ files, temporaryFolder: this.#temporaryFolder }, work),
    );
    this.#last = run.catch(() => undefined);
    try {
      return await run;
    } finally {
      this.#waiting -= 1;
    }
  }
}

/** `check` and `test` report on standard error, `build` on standard output. */
function errorText(result: ChildResult): string {
  return result.stderr === '' ? result.stdout : result.stderr;
}

const BUILD_OUTPUT = 'built.tar.gz';

function entrypointsOf(target: PolicyTarget): readonly PolicyEntrypoints[] {
  return target.packages.flatMap((name) => {
    const allow = `${name}/allow`;
    return target.hasEgress ? [{ allow, egress: `${name}/egress` }, { allow }] : [{ allow }];
  });
}

/** Keeps the module and the data of what was built: sources stay on the server. */
async function readArtifact(path: string, reads: readonly InputPath[] | undefined): Promise<Uint8Array> {
  const files = readTarGz(await readFile(path), BUILD_LIMITS);
  const wasm = files.get('policy.wasm');
  const data = files.get('data.json');
  if (wasm === undefined || data === undefined)
    throw new PicketError('internal', 'policy_build_failed', 'The compiler built no module');
  const artifact = buildPolicyBundle({ wasm, data, ...(reads === undefined ? {} : { reads }) });
  if (artifact.length > MAX_ARTIFACT_BYTES)
    throw refusePolicy('policy_too_big', [
      { file: '', line: 0, message: `compiled it is longer than ${MAX_ARTIFACT_BYTES} bytes` },
    ]);
  return artifact;
}
