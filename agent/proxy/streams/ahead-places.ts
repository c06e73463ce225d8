/**
 * So many connections of this process are read ahead of their reader at once. Mostly a few are, for a moment; where thousands come and nobody reads them, because what they are for does not answer, the bytes of the
 * others wait in the kernel. Of each the agent holds `READ_AHEAD_BYTES` and one piece more, some 120 KiB.
 */
export const AHEAD_PLACES = 128;

let taken = 0;

/** Whether there is a place; it is the caller's then. */
export function takeAheadPlace(): boolean {
  if (taken >= AHEAD_PLACES) return false;
  taken += 1;
  return true;
}

/** Gives a place back. */
export function giveAheadPlace(): void {
  taken -= 1;
}
