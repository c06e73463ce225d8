import { PicketError } from '../errors/errors.ts';

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Parses a duration such as `30s`, `15m`, `24h` or `7d` into whole seconds. Throws `invalid_argument`, reason `duration_invalid`. */
export function parseDurationSeconds(text: string): number {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  const unit = SECONDS[match?.[2] ?? ''];
  if (match === null || unit === undefined) {
    throw new PicketError(
      'invalid_argument',
      'duration_invalid',
      `Cannot parse duration "${text}": expected a number and s, m, h or d, such as 30s or 24h`,
    );
  }
  return Number(match[1]) * unit;
}
