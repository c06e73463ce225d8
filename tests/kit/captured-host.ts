import type { CaptureBackend } from '../../agent/capture/capture.ts';
import { createBpfPlace } from './bpf-place.ts';
import type { MeshHostOptions } from './mesh-host.ts';
import type { TestHost } from './netns.ts';

export interface CapturedHostOptions {
  /** More settings for the agent. */
  readonly settings?: MeshHostOptions['settings'];
  /** With what it captures; nftables unless given. */
  readonly backend?: CaptureBackend;
}

/** A host as its agent captures it, and the agent's settings. What it takes is removed with `stack`. */
export async function prepareCapture(
  host: TestHost,
  { backend, settings }: CapturedHostOptions,
  stack: AsyncDisposableStack,
): Promise<{ readonly host: TestHost; readonly settings: MeshHostOptions['settings'] & object }> {
  if (backend !== 'ebpf') return { host, settings: settings ?? {} };
  const place = await createBpfPlace(host);
  stack.defer(async () => await place.remove());
  const capture = { ...(settings?.['capture'] as object | undefined), ...place.settings };
  return { host: place.host, settings: { ...settings, capture } };
}
