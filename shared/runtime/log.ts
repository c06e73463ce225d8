import { describeError } from '../errors/errors.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type LogFields = Readonly<Record<string, unknown>>;

/** A structured log: one JSON object a line. `event` is snake_case and never holds a value, so that logs can be counted. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A log that adds `fields` to every line. */
  with(fields: LogFields): Log;
}

const ORDER: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** A log that hands each line (without its newline) to `write`. A field `error` may be an Error; it is described, not dumped. */
export function createLog(options: {
  readonly level: LogLevel;
  readonly nowMs: () => number;
  readonly write: (line: string) => void;
  readonly fields?: LogFields;
}): Log {
  const emit = (level: LogLevel, event: string, fields: LogFields | undefined): void => {
    if (ORDER[level] < ORDER[options.level]) return;
    const ts = new Date(options.nowMs()).toISOString();
    options.write(JSON.stringify({ ts, level, event, ...options.fields, ...fields }, replaceValue));
  };
  return {
    debug: (event, fields) => emit('debug', event, fields),
    info: (event, fields) => emit('info', event, fields),
    warn: (event, fields) => emit('warn', event, fields),
    error: (event, fields) => emit('error', event, fields),
    with: (fields) => createLog({ ...options, fields: { ...options.fields, ...fields } }),
  };
}

function replaceValue(_key: string, value: unknown): unknown {
  if (value instanceof Error) return describeError(value);
  return typeof value === 'bigint' ? value.toString() : value;
}
