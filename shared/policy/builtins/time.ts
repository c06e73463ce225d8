import { findInteger, toExactInteger, type BuiltinResult, type Builtins, type Json } from './builtin.ts';
import { findCivilTime, findZonedNs, isTime, toUtcNs, weekdayOf, type CivilTime } from './civil-time.ts';
import { formatTime } from './time-layout.ts';

const WEEKDAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/** Nanoseconds of the units of Go's time.ParseDuration, and OPA's days, weeks and years. */
const UNIT_NS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
  d: 86_400_000_000_000n,
  w: 604_800_000_000_000n,
  y: 31_536_000_000_000_000n,
};

/** OPA's `time.*`, as far as it goes by the clock that `nowNs` reads: every call within one evaluation sees the same instant. */
export function createTimeBuiltins(nowNs: () => bigint): Builtins {
  return {
    'time.now_ns': () => toExactInteger(nowNs()),
    'time.clock': (time) => withCivil(time, ({ hour, minute, second }) => [hour, minute, second]),
    'time.date': (time) => withCivil(time, ({ year, month, day }) => [year, month, day]),
    'time.weekday': (time) => withCivil(time, (civil) => WEEKDAYS[weekdayOf(civil)]),
    'time.format': (time) => withCivil(time, (civil) => formatTime(civil, layoutOf(time))),
    'time.add_date': addDate,
    'time.diff': diffTimes,
    'time.parse_rfc3339_ns': parseRfc3339,
    'time.parse_duration_ns': parseDuration,
  };
}

interface Instant {
  readonly ns: bigint;
  readonly zone: string;
  readonly civil: CivilTime;
}

/** `ns`, `[ns, zone]` or `[ns, zone, layout]`. */
function findInstant(value: Json | undefined): Instant | undefined {
  const [number, zone = ''] = Array.isArray(value) ? (value as readonly Json[]) : [value];
  const ns = findInteger(number);
  if (ns === undefined || !isTime(ns) || typeof zone !== 'string') return undefined;
  const civil = findCivilTime(ns, zone);
  return civil === undefined ? undefined : { ns, zone, civil };
}

function withCivil(value: Json | undefined, use: (civil: CivilTime) => BuiltinResult): BuiltinResult {
  const instant = findInstant(value);
  return instant === undefined ? undefined : use(instant.civil);
}

function layoutOf(value: Json | undefined): string {
  const layout = Array.isArray(value) ? (value as readonly Json[])[2] : undefined;
  return typeof layout === 'string' ? layout : '';
}

function addDate(time?: Json, years?: Json, months?: Json, days?: Json): BuiltinResult {
  const instant = findInstant(time);
  if (instant === undefined || !isSmall(years) || !isSmall(months) || !isSmall(days)) return undefined;
  const { civil, zone } = instant;
  const moved = {
    ...civil,
    year: civil.year + years,
    month: civil.month + months,
    day: civil.day + days,
  };
  const ns = findZonedNs(moved, zone);
  return ns === undefined || !isTime(ns) ? undefined : toExactInteger(ns);
}

function isSmall(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= 300_000;
}

/** Years, months, days, hours, minutes and seconds between two instants, in the zone of the first. */
function diffTimes(left?: Json, right?: Json): BuiltinResult {
  const first = findInstant(left);
  const second = findInstant(right);
  if (first === undefined || second === undefined) return undefined;
  const other = findCivilTime(second.ns, first.zone);
  if (other === undefined) return undefined;
  const [from, to] = first.ns > second.ns ? [other, first.civil] : [first.civil, other];
  const difference = [
    to.year - from.year,
    to.month - from.month,
    to.day - from.day,
    to.hour - from.hour,
    to.minute - from.minute,
    to.second - from.second,
  ];
  const daysOfMonth = new Date(Date.UTC(from.year, from.month, 0)).getUTCDate();
  return borrow(difference, [0, 12, daysOfMonth, 24, 60, 60]);
}

/** Makes every place of a difference positive by borrowing from the place before. */
function borrow(places: number[], bases: readonly number[]): number[] {
  for (let i = places.length - 1; i > 0; i--) {
    const place = places[i] ?? 0;
    if (place >= 0) continue;
    places[i] = place + (bases[i] ?? 0);
    places[i - 1] = (places[i - 1] ?? 0) - 1;
  }
  return places;
}

function parseRfc3339(text?: Json): BuiltinResult {
  if (typeof text !== 'string') return undefined;
  const match =
    /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,30}))?(?:Z|([+-])(\d\d):(\d\d))$/.exec(text);
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const offsetHours = Number(match[9] ?? 0);
  const offsetMinutes = Number(match[10] ?? 0);
  const isInRange = month >= 1 && month <= 12 && hour <= 23 && minute <= 59 && second <= 59;
  if (!isInRange || day < 1 || day > new Date(Date.UTC(2000 + (year % 400), month, 0)).getUTCDate())
    return undefined;
  if (offsetHours > 24 || offsetMinutes > 59) return undefined;
  const nanosecond = Number((match[7] ?? '').slice(0, 9).padEnd(9, '0'));
  const offsetNs =
    BigInt((offsetHours * 60 + offsetMinutes) * (match[8] === '-' ? -60 : 60)) * 1_000_000_000n;
  const ns = toUtcNs({ year, month, day, hour, minute, second, nanosecond }) - offsetNs;
  return isTime(ns) ? toExactInteger(ns) : undefined;
}

function parseDuration(text?: Json): BuiltinResult {
  if (typeof text !== 'string' || text.length > 64) return undefined;
  const body = text.replace(/^[+-]/, '');
  if (body === '0') return 0;
  const parts = [...body.matchAll(/(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|[smhdwy])/gu)];
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== body) return undefined;
  let total = 0n;
  for (const [, whole = '', fraction = '', unit = ''] of parts) {
    if (whole === '' && fraction === '') return undefined;
    const unitNs = UNIT_NS[unit.replace('μ', 'µ')] ?? 0n;
    const digits = fraction.slice(0, 18);
    total += BigInt(whole === '' ? 0 : whole) * unitNs;
    total += (BigInt(digits === '' ? 0 : digits) * unitNs) / 10n ** BigInt(digits.length);
  }
  const ns = text.startsWith('-') ? -total : total;
  return isTime(ns) ? toExactInteger(ns) : undefined;
}
