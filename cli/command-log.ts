import { createLog, type Log, type LogLevel } from '../shared/runtime/log.ts';

/** A log of a command on standard error. */
export function commandLog(level: LogLevel): Log {
  return createLog({ level, nowMs: () => Date.now(), write: (line) => process.stderr.write(`${line}\n`) });
}
