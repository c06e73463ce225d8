import { readFileSync } from 'node:fs';

/** What processes cost, by /proc. */

/** Of USER_HZ, which is 100 on every Linux that Picket runs on. */
const TICKS_PER_SECOND = 100;
const UTIME = 11;
const STIME = 12;

/** CPU seconds that the processes have used so far, with all their threads. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[UTIME]) + Number(fields[STIME]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Memory of the processes in KiB: what they share is divided among those who share it (Pss). */
export function memoryKib(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    kib += Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]);
  }
  return kib;
}

/** The process and all its descendants. */
export function processTree(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  const below = children === '' ? [] : children.split(' ').flatMap((child) => processTree(Number(child)));
  return [pid, ...below];
}
