/**
 * Gives back what starting has left behind: garbage, and the compiled code of functions that do not run again. What does run is compiled anew, so it is
 * called before a process carries traffic. Measured on an idle agent: 4 to 5 MiB of 51, for some 20 ms.
 */
export function giveBackMemory(): void {
  Bun.shrink();
}
