/** Waits until the process is asked to end. A second signal ends it at once. */
export async function waitForSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  // Timers of the roles do not keep the process alive; this one does.
  const keepAlive = setInterval(() => undefined, 60_000);
  return await promise.finally(() => clearInterval(keepAlive));
}
