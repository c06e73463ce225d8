import { readFileSync } from 'node:fs';
import { parseStartTime } from '../../agent/workload-api/peer.ts';

/** One process for ever. Its number alone is given to another one within minutes, where many come and go. */
export interface ProcessLife {
  readonly pid: number;
  /** As /proc tells it; undefined of a number that nobody has. */
  readonly startTime: string | undefined;
}

/** The process that has the number now. */
export function lifeOf(pid: number): ProcessLife {
  return { pid, startTime: findStartTime(pid) };
}

/** Whether it has not ended. One that was not reaped yet has. */
export function isAlive({ pid, startTime }: ProcessLife): boolean {
  return startTime !== undefined && findStartTime(pid) === startTime;
}

/** Undefined of a process that has ended. */
function findStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const state = stat.charAt(stat.lastIndexOf(')') + 2);
    return state === 'Z' || state === 'X' ? undefined : parseStartTime(stat);
  } catch {
    return undefined;
  }
}
