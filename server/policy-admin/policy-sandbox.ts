import { PicketError } from '../../shared/errors/errors.ts';
import type { PolicyInput } from '../../shared/policy/policy-engine.ts';
import { systemClock } from '../../shared/runtime/clock.ts';
import { startProcessorDeadline } from './processor-deadline.ts';

/** One evaluation. */
export interface SandboxCase {
  readonly entrypoint: string;
  readonly input: PolicyInput;
  readonly nowMs: number;
}

/** What an evaluation gave: its value (undefined where the rule has none), or why it failed. */
export type SandboxResult =
  | { readonly isOk: true; readonly value: unknown; readonly micros: number }
  | { readonly isOk: false; readonly message: string };

/** What the sandbox is asked, and what it answers. */
export interface SandboxRequest {
  readonly artifact: Uint8Array;
  readonly cases: readonly SandboxCase[];
}
export type SandboxAnswer =
  | { readonly kind: 'results'; readonly results: readonly SandboxResult[] }
  | { readonly kind: 'refused'; readonly message: string };

/** Loading and all cases together, in milliseconds of a processor: what takes longer would hold up a host's traffic. */
const GRANTED_MS = 5_000;
/** On a machine that is busy with other things, in milliseconds. */
const LONGEST_MS = 20_000;

/** Where the worker stands: beside this file, or inside the executable, which knows its files by their path in the project. */
const IS_COMPILED = import.meta.url.includes('/$bunfs/');
const WORKER = IS_COMPILED ? './server/policy-admin/sandbox/main.ts' : './sandbox/main.ts';

/**
 * Evaluates with the engine of the agents, in a thread that is stopped when it takes too long: a published policy may loop over what it is
 * given. Throws `invalid_argument`, reason `policy_timeout` or `policy_artifact_invalid`.
 */
export async function evaluateInSandbox(request: SandboxRequest): Promise<readonly SandboxResult[]> {
  const worker = new Worker(new URL(WORKER, import.meta.url));
  try {
    const answer = await exchange(worker, request);
    if (answer.kind === 'refused') throw invalid('policy_artifact_invalid', answer.message);
    return answer.results;
  } finally {
    worker.terminate();
  }
}

async function exchange(worker: Worker, request: SandboxRequest): Promise<SandboxAnswer> {
  const answered = Promise.withResolvers<SandboxAnswer>();
  const tooLong = `its evaluation takes longer than ${GRANTED_MS} ms`;
  const endDeadline = startProcessorDeadline({
    grantedMs: GRANTED_MS,
    longestMs: LONGEST_MS,
    spentMs: processorMs,
    clock: systemClock,
    onOver: () => answered.reject(invalid('policy_timeout', tooLong)),
  });
  worker.addEventListener('message', (event: MessageEvent<SandboxAnswer>) => answered.resolve(event.data));
  worker.addEventListener('error', (event) => answered.reject(crashed(event.message)));
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage(request);
  return await answered.promise.finally(endDeadline);
}

/** What this process has had of its processors so far, in milliseconds. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function invalid(reason: 'policy_timeout' | 'policy_artifact_invalid', why: string): PicketError {
  return new PicketError('invalid_argument', reason, `The policy is refused: ${why}`);
}

function crashed(message: string): PicketError {
  return new PicketError('internal', 'sandbox_failed', 'The policy could not be evaluated', {
    cause: message,
  });
}
