import { weekdayOf, type CivilTime } from './civil-time.ts';

const RFC3339_NANO = '2006-01-02T15:04:05.999999999Z07:00';

/** The names that OPA knows for layouts without a zone abbreviation, which ICU and Go spell differently. */
const NAMED_LAYOUTS: ReadonlyMap<string, string> = new Map([
  ['', RFC3339_NANO],
  ['RFC3339', '2006-01-02T15:04:05Z07:00'],
  ['RFC3339Nano', RFC3339_NANO],
  ['ANSIC', 'Mon Jan _2 15:04:05 2006'],
  ['RubyDate', 'Mon Jan 02 15:04:05 -0700 2006'],
  ['RFC822Z', '02 Jan 06 15:04 -0700'],
  ['RFC1123Z', 'Mon, 02 Jan 2006 15:04:05 -0700'],
]);

const MAX_LAYOUT_LENGTH = 128;

/** The reference time's parts in a Go layout, longest first. Parts of Go's that are missing here make the layout unknown. */
const TOKENS =
  /January|Jan|Monday|Mon|MST|2006|Z07:00|Z0700|-07:00|-0700|_2|01|02|03|04|05|06|15|PM|pm|[.,]0{1,9}(?!\d)|[.,]9{1,9}(?!\d)|[1-5]/g;

const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
);
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** A time in a layout of Go's `time.Format`, or undefined for a layout that asks for a zone's abbreviation or is too long. */
export function formatTime(time: CivilTime, layout: string): string | undefined {
  const pattern = NAMED_LAYOUTS.get(layout) ?? layout;
  if (pattern.length > MAX_LAYOUT_LENGTH || /MST|__2|002|-07(?!:?00)|Z07(?!:?00)/.test(pattern))
    return undefined;
  return pattern.replace(TOKENS, (token) => formatToken(time, token));
}

function formatToken(time: CivilTime, token: string): string {
  if (/^[.,]/.test(token)) return formatFraction(time.nanosecond, token);
  if (token.includes('07')) return formatOffset(time.offsetSeconds, token);
  return TOKEN_FORMATS[token]?.(time) ?? token;
}

const TOKEN_FORMATS: Readonly<Record<string, (time: CivilTime) => string>> = {
  January: ({ month }) => MONTHS[month - 1] ?? '',
  Jan: ({ month }) => (MONTHS[month - 1] ?? '').slice(0, 3),
  Monday: (time) => DAYS[weekdayOf(time)] ?? '',
  Mon: (time) => (DAYS[weekdayOf(time)] ?? '').slice(0, 3),
  '2006': ({ year }) => String(year).padStart(4, '0'),
  '06': ({ year }) => twoDigits(year % 100),
  '01': ({ month }) => twoDigits(month),
  '1': ({ month }) => String(month),
  '02': ({ day }) => twoDigits(day),
  _2: ({ day }) => String(day).padStart(2, ' '),
  '2': ({ day }) => String(day),
  '15': ({ hour }) => twoDigits(hour),
  '03': ({ hour }) => twoDigits(hour % 12 || 12),
  '3': ({ hour }) => String(hour % 12 || 12),
  '04': ({ minute }) => twoDigits(minute),
  '4': ({ minute }) => String(minute),
  '05': ({ second }) => twoDigits(second),
  '5': ({ second }) => String(second),
  PM: ({ hour }) => (hour >= 12 ? 'PM' : 'AM'),
  pm: ({ hour }) => (hour >= 12 ? 'pm' : 'am'),
};

/** `.000` keeps its zeros, `.999` drops them and the point with the last one. */
function formatFraction(nanosecond: number, token: string): string {
  const digits = String(nanosecond)
    .padStart(9, '0')
    .slice(0, token.length - 1);
  if (token[1] === '0') return `${token[0]}${digits}`;
  const trimmed = digits.replace(/0+$/, '');
  return trimmed === '' ? '' : `${token[0]}${trimmed}`;
}

function formatOffset(offsetSeconds: number, token: string): string {
  if (token.startsWith('Z') && offsetSeconds === 0) return 'Z';
  const minutes = Math.floor(Math.abs(offsetSeconds) / 60);
  const colon = token.includes(':') ? ':' : '';
  return `${offsetSeconds < 0 ? '-' : '+'}${twoDigits(Math.floor(minutes / 60))}${colon}${twoDigits(minutes % 60)}`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
