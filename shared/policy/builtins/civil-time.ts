const NS_PER_SECOND = 1_000_000_000n;

/** Times that OPA takes: nanoseconds that fit 64 bits. */
const MIN_NS = -(2n ** 63n);
const MAX_NS = 2n ** 63n - 1n;

/** A wall clock in a time zone. */
export interface CivilTime {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly nanosecond: number;
  /** Seconds east of UTC. */
  readonly offsetSeconds: number;
}

/** Whether nanoseconds since 1970 are within what OPA takes. */
export function isTime(ns: bigint): boolean {
  return ns >= MIN_NS && ns <= MAX_NS;
}

/** The wall clock at an instant (nanoseconds since 1970), or undefined for a zone that is not known. The empty zone is UTC. */
export function findCivilTime(ns: bigint, zone: string): CivilTime | undefined {
  const seconds = floorDivide(ns, NS_PER_SECOND);
  const ms = Number(seconds) * 1000;
  const offsetSeconds = findOffsetSeconds(ms, zone);
  if (offsetSeconds === undefined) return undefined;
  const date = new Date(ms + offsetSeconds * 1000);
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth() + 1,
    day: date.getUTCDate(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
    nanosecond: Number(ns - seconds * NS_PER_SECOND),
    offsetSeconds,
  };
}

/** Nanoseconds since 1970 of a wall clock read as UTC; fields out of range carry over. */
export function toUtcNs(time: Omit<CivilTime, 'offsetSeconds'>): bigint {
  const date = new Date(0);
  date.setUTCFullYear(time.year, time.month - 1, time.day);
  date.setUTCHours(time.hour, time.minute, time.second);
  return BigInt(date.getTime()) * 1_000_000n + BigInt(time.nanosecond);
}

/** Nanoseconds since 1970 of a wall clock in a zone. In the hour that a zone skips or repeats, the offset of the hour before counts. */
export function findZonedNs(time: Omit<CivilTime, 'offsetSeconds'>, zone: string): bigint | undefined {
  const utc = toUtcNs(time);
  const guess = findCivilTime(utc, zone);
  if (guess === undefined) return undefined;
  const offset = findCivilTime(utc - BigInt(guess.offsetSeconds) * NS_PER_SECOND, zone)?.offsetSeconds;
  return offset === undefined ? undefined : utc - BigInt(offset) * NS_PER_SECOND;
}

/** 0 is Sunday. */
export function weekdayOf(time: CivilTime): number {
  return new Date(Date.UTC(time.year, time.month - 1, time.day)).getUTCDay();
}

/** Zones are few in practice; the bound keeps a policy that makes them up from filling the memory. */
const MAX_FORMATS = 64;
const formats = new Map<string, Intl.DateTimeFormat>();

function findOffsetSeconds(ms: number, zone: string): number | undefined {
  if (zone === '' || zone === 'UTC') return 0;
  if (!/^[A-Za-z0-9_+/-]{1,64}$/.test(zone) || zone === 'Local') return undefined;
  try {
    const name = formatOf(zone)
      .formatToParts(ms)
      .find((part) => part.type === 'timeZoneName')?.value;
    return parseOffset(name ?? '');
  } catch {
    return undefined;
  }
}

function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known !== undefined) return known;
  if (formats.size >= MAX_FORMATS) formats.clear();
  const format = new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' });
  formats.set(zone, format);
  return format;
}

/** `GMT`, `GMT+01:00`, `GMT-00:25:21`. */
function parseOffset(name: string): number | undefined {
  const match = /^GMT(?:([+-])(\d{2}):(\d{2})(?::(\d{2}))?)?$/.exec(name);
  if (match === null) return undefined;
  const seconds = Number(match[2] ?? 0) * 3600 + Number(match[3] ?? 0) * 60 + Number(match[4] ?? 0);
  return match[1] === '-' ? -seconds : seconds;
}

function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value % by < 0n ? quotient - 1n : quotient;
}
