import * as library from '@open-policy-agent/opa-wasm';
import { PicketError } from '../errors/errors.ts';
import { createHostBuiltins, isHostBuiltin } from './builtins/supported-builtins.ts';
import { readPolicyBundle, type InputPath } from './policy-bundle.ts';
import type { PolicyEngine, PolicyEngineLoader, PolicyInput } from './policy-engine.ts';
import { readInput } from './read-input.ts';

/** 64 MiB in pages of 64 KiB: an evaluation that makes a set of three million items would otherwise keep 600 MB for good. */
const MAX_MEMORY_PAGES = 1024;
const FIRST_MEMORY_PAGES = 8;
type LoadedPolicy = library.LoadedPolicy;

/** The library's module has it only in its default export, its types only outside of it. */
const { loadPolicySync } = (
  library as unknown as { readonly default: Pick<typeof library, 'loadPolicySync'> }
).default;

const PAGE_BYTES = 64 * 1024;

/**
 * An exception that passes through the module leaves its stack pointer where it was: after a thousand of them every evaluation would
 * end in a trap. A new instance costs about 0.5 ms and a copy of the data, so it is made after some.
 */
const MAX_THROWN = 32;

/**
 * Loads policies that OPA compiled to wasm. The module gets no clock, file or network: only the builtins of `builtins/`; one that asks for
 * another is refused at load. Nothing bounds the time of an evaluation within one thread: publication measures it.
 */
export function createOpaWasmLoader(): PolicyEngineLoader {
  return { load: loadEngine };
}

async function loadEngine(artifact: Uint8Array): Promise<PolicyEngine> {
  const { wasm, data, reads } = readPolicyBundle(artifact);
  try {
    return new OpaWasmEngine(await WebAssembly.compile(toArrayBuffer(wasm)), {
      data: toArrayBuffer(data),
      reads,
      memoryPages: FIRST_MEMORY_PAGES + Math.ceil(wasm.length / PAGE_BYTES),
    });
  } catch (cause) {
    throw cause instanceof PicketError ? cause : invalid('the module or its data cannot be loaded', cause);
  }
}

interface EngineOptions {
  readonly data: ArrayBuffer;
  readonly memoryPages: number;
  readonly reads: readonly InputPath[] | undefined;
}

/** The only builtin whose answer is not determined by its arguments. */
const CLOCK = 'time.now_ns';

class OpaWasmEngine implements PolicyEngine {
  readonly entrypoints: readonly string[];
  readonly reads: readonly InputPath[] | undefined;
  readonly #module: WebAssembly.Module;
  readonly #options: EngineOptions;
  #policy: LoadedPolicy | undefined;
  #nowNs = 0n;
  /** Evaluations of this instance that threw. */
  #thrown = 0;

  constructor(module: WebAssembly.Module, options: EngineOptions) {
    this.#module = module;
    this.#options = options;
    this.#policy = this.#instantiate();
    this.reads = readRequiredBuiltins(this.#policy).includes(CLOCK) ? undefined : options.reads;
    this.entrypoints = Object.keys(this.#policy.entrypoints as Readonly<Record<string, number>>);
  }

  evaluate(entrypoint: string, input: PolicyInput, nowMs: number): unknown {
    this.#nowNs = BigInt(Math.floor(nowMs)) * 1_000_000n;
    try {
      return this.#evaluateOnce(entrypoint, input);
    } catch (cause) {
      const isForWantOfStack = this.#thrown > 1 && cause instanceof WebAssembly.RuntimeError;
      if (!isForWantOfStack) throw failed(cause);
    }
    this.#policy = undefined;
    try {
      return this.#evaluateOnce(entrypoint, input);
    } catch (cause) {
      throw failed(cause);
    }
  }

  #evaluateOnce(entrypoint: string, input: PolicyInput): unknown {
    if (this.#thrown >= MAX_THROWN) this.#policy = undefined;
    const policy = (this.#policy ??= this.#instantiate());
    this.#thrown += 1;
    const { reads } = this.#options;
    const read = reads === undefined ? input : readInput(input, reads);
    const [first] = policy.evaluate(read, entrypoint) as readonly { readonly result: unknown }[];
    this.#thrown -= 1;
    return first?.result;
  }

  #instantiate(): LoadedPolicy {
    this.#thrown = 0;
    const policy = loadPolicySync(
      this.#module,
      { initial: this.#options.memoryPages, maximum: MAX_MEMORY_PAGES },
      createHostBuiltins(() => this.#nowNs),
    );
    const unknown = readRequiredBuiltins(policy).filter((name) => !isHostBuiltin(name));
    if (unknown.length > 0)
      throw invalid(`it asks for builtins that are not supported: ${unknown.join(', ')}`);
    policy.setData(this.#options.data);
    return policy;
  }
}

/** The names in the module's own table of builtins (OPA's wasm ABI, `builtins()`): NUL-terminated JSON, an object of name to id. */
function readRequiredBuiltins(policy: LoadedPolicy): readonly string[] {
  const exports = (policy.wasmInstance as WebAssembly.Instance).exports as unknown as {
    builtins(): number;
    opa_json_dump(address: number): number;
  };
  const memory = new Uint8Array(policy.mem.buffer, exports.opa_json_dump(exports.builtins()));
  const text = Buffer.from(memory.subarray(0, memory.indexOf(0))).toString('utf8');
  return Object.keys(JSON.parse(text) as Readonly<Record<string, number>>);
}

/** The library throws strings and bare objects as well as errors. */
function failed(cause: unknown): PicketError {
  return new PicketError('internal', 'policy_error', `Cannot evaluate the policy: ${describe(cause)}`, {
    cause,
  });
}

function toArrayBuffer(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

function describe(cause: unknown): string {
  if (typeof cause === 'string') return cause;
  const message = (cause as { readonly message?: unknown } | null)?.message;
  return typeof message === 'string' ? message : 'the module gave up';
}

function invalid(why: string, cause?: unknown): PicketError {
  return new PicketError(
    'invalid_argument',
    'policy_artifact_invalid',
    `Cannot load the policy artefact: ${why}`,
    {
      cause,
    },
  );
}
