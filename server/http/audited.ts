import { failureOf, PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';

/** A line of the operators' log. */
export interface ActionRecord {
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly decision: 'allow' | 'deny';
  /** `done`, or `code/reason` of the failure. */
  readonly outcome: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

export type RecordAction = (record: ActionRecord) => Promise<void>;

export type ActionToRecord = Omit<ActionRecord, 'outcome'>;

/** `done`, or how the operators' log names an error. */
export function outcomeOf(error?: unknown): string {
  if (error === undefined) return 'done';
  const { code, reason } = toPicketError(error);
  return `${code}/${reason}`;
}

/**
 * Runs an allowed action and writes what came of it. An action that was done but could not be written is answered as `internal`,
 * reason `audit_unavailable`, so that nobody takes it for a recorded one. One that failed for want of the database, which has the log too, is answered as what it failed with.
 */
export async function audited<T>(
  action: ActionToRecord,
  options: { readonly record: RecordAction; readonly log: Log; readonly run: () => Promise<T> },
): Promise<T> {
  let result: T;
  try {
    result = await options.run();
  } catch (error) {
    const unrecorded = await failureOf(recordOrFail({ ...action, outcome: outcomeOf(error) }, options));
    throw unrecorded === undefined || toPicketError(error).code === 'unavailable' ? error : unrecorded;
  }
  await recordOrFail({ ...action, outcome: outcomeOf() }, options);
  return result;
}

/** Writes one line. Throws `internal`, reason `audit_unavailable`, when the log cannot take it. */
export async function recordOrFail(
  record: ActionRecord,
  options: { readonly record: RecordAction; readonly log: Log },
): Promise<void> {
  try {
    await options.record(record);
  } catch (cause) {
    options.log.error('operator_log_failed', { ...record, error: cause });
    throw new PicketError('internal', 'audit_unavailable', 'The action could not be recorded', { cause });
  }
}
