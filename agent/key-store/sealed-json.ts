import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';

/** Reads a sealed value that is JSON. Throws `failed_precondition`, reason `state_unknown`, for what another version of Picket wrote. */
export function parseSealedJson<T extends z.ZodType>(
  name: string,
  value: Uint8Array,
  schema: T,
): z.output<T> {
  const parsed = schema.safeParse(parseJson(value));
  if (parsed.success) return parsed.data;
  throw unknownState(name, parsed.error);
}

/** The error of a sealed value that is not in a form that this version knows. */
export function unknownState(name: string, cause?: unknown): PicketError {
  return new PicketError(
    'failed_precondition',
    'state_unknown',
    `The sealed state ${name} is of another version of Picket`,
    { cause },
  );
}

function parseJson(value: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(value).toString('utf8'));
  } catch {
    return undefined;
  }
}
