import { replaceProcess } from './native/replace-process.ts';

/**
 * What the engine reads from the environment when it starts, and only then. By itself it collects garbage once a second, needed or not, and nothing is forwarded
 * for the millisecond that this takes: at 1,000 requests a second that alone was the 99th percentile. It still collects whenever some MiB were allocated.
 */
const SETTINGS: Readonly<Record<string, string>> = { BUN_GC_TIMER_INTERVAL: '10000' };

/** Goes on in a process that was started with the engine's settings: this one, or this one started anew. What somebody has set is left as it is. */
export function applyEngineSettings(environment: Readonly<Record<string, string | undefined>>): void {
  const isMissing = Object.keys(SETTINGS).some((name) => environment[name] === undefined);
  if (isMissing) replaceProcess({ ...SETTINGS, ...environment });
}
