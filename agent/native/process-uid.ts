import { statSync } from 'node:fs';

/** The effective user of a process, by who owns its folder in /proc; undefined when it has ended. */
export function findUidOfProcess(pid: number): number | undefined {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
}
