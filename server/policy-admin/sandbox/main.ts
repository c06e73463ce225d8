import { toPicketError } from '../../../shared/errors/errors.ts';
import { createOpaWasmLoader } from '../../../shared/policy/opa-wasm.ts';
import type { PolicyEngine } from '../../../shared/policy/policy-engine.ts';
import type { SandboxAnswer, SandboxCase, SandboxRequest, SandboxResult } from '../policy-sandbox.ts';

/** The thread behind `policy-sandbox.ts`: it answers one request and is then stopped from outside. */
declare const self: Worker;

self.addEventListener('message', (event: MessageEvent<SandboxRequest>) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  void answer(event.data).then((message) => self.postMessage(message));
});

async function answer({ artifact, cases }: SandboxRequest): Promise<SandboxAnswer> {
  try {
    const engine = await createOpaWasmLoader().load(artifact);
    return { kind: 'results', results: cases.map((each) => evaluate(engine, each)) };
  } catch (error) {
    return { kind: 'refused', message: toPicketError(error).message };
  }
}

function evaluate(engine: PolicyEngine, { entrypoint, input, nowMs }: SandboxCase): SandboxResult {
  const started = Bun.nanoseconds();
  try {
    const value = engine.evaluate(entrypoint, input, nowMs);
    return { isOk: true, value, micros: (Bun.nanoseconds() - started) / 1000 };
  } catch (error) {
    return { isOk: false, message: toPicketError(error).message };
  }
}
