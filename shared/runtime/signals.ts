/** Waits until the process is asked to end, or `over` resolves; rejects as that. A second signal ends it at once. */
export async function waitForSignal(over?: Promise<void>): Promise<NodeJS.Signals | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<NodeJS.Signals | undefined>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  over?.then(() => resolve(undefined), reject);
  // Timers of the roles do not keep the process alive; this one does.
  const keepAlive = setInterval(() => undefined, 60_000);
  return await promise.finally(() => clearInterval(keepAlive));
}
