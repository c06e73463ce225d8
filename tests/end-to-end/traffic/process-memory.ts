import { readFileSync, writeFileSync } from 'node:fs';

/** What a process takes of the machine's memory, by /proc/PID/status. */
export interface ProcessMemory {
  readonly residentBytes: number;
  /** The most that it took since its start, or since `resetPeak`. */
  readonly peakBytes: number;
}

/** Reads what a process takes. */
export function readMemory(pid: number): ProcessMemory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
  return { residentBytes: read('VmRSS'), peakBytes: read('VmHWM') };
}

/** Lets the peak begin anew (proc(5), clear_refs). */
export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}
