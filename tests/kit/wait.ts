/** Waits until `condition` gives something other than undefined or false, looking again every few milliseconds; fails by name after `withinMs`. */
export async function waitUntil<T>(
  description: string,
  condition: () => T | Promise<T>,
  withinMs = 30_000,
): Promise<Exclude<T, undefined | false>> {
  const endMs = performance.now() + withinMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > endMs)
      throw new Error(`Waited ${withinMs} ms in vain until ${description}`, { cause: lastError });
    await Bun.sleep(20);
  }
}
