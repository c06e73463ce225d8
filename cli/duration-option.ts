import { InvalidArgumentError, Option } from 'commander';
import { parseDurationSeconds } from '../shared/config/duration.ts';

/** An option such as 30s, 15m, 24h or 7d, as seconds. */
export function durationSeconds(text: string): number {
  try {
    return parseDurationSeconds(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : 'It is not a duration.');
  }
}

/** An option such as 30s or 365d, which the help shows as it is written; the value is in seconds. */
export function durationOption(flags: string, description: string, fallback: string): Option {
  return new Option(flags, description)
    .argParser(durationSeconds)
    .default(durationSeconds(fallback), fallback);
}

/** An option that is a whole number. */
export function wholeNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}
