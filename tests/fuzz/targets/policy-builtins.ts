import type { Json } from '../../../shared/policy/builtins/builtin.ts';
import { createHostBuiltins } from '../../../shared/policy/builtins/supported-builtins.ts';
import { JSON_WORDS } from '../json-words.ts';
import { requireThat, words, type FuzzTarget } from '../target.ts';

const BUILTINS = createHostBuiltins(() => 1_795_514_400_123_000_000n);
const NAMES = Object.keys(BUILTINS);
const NOW_NS = 1_795_514_400_123_000_000;
/** What a builtin makes is bounded by what it gets: an escape takes up to six times its character, a position some digits. */
const MAX_TIMES = 16;
const MAX_MORE = 2 * 1024 * 1024;

const CALLS: Readonly<Record<string, readonly Json[]>> = {
  'strings.any_prefix_match': [['abc'], ['a']],
  'strings.count': ['cheese', 'e'],
  indexof_n: ['aXbXé', 'X'],
  'hex.decode': ['c3a9'],
  'urlquery.decode': ['a+b%26c%C3%A9'],
  'urlquery.encode': ["a b&c=é!'()*~"],
  'glob.quote_meta': ['a*b?[c]{d}\\'],
  'crypto.hmac.sha256': ['x', 'key'],
  'numbers.range_step': [1, 10, 3],
  'semver.compare': ['1.0.0-a.1', '1.0.0-a.b+c'],
  'object.subset': [{ a: { b: 1 } }, { a: { b: 1 } }],
  'io.jwt.decode': ['eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAEC'],
  'time.format': [[NOW_NS, 'Europe/Berlin', 'Monday, 02-Jan-06 3:04:05.000PM Z07:00']],
  'time.add_date': [[NOW_NS, 'America/New_York'], 1, -2, 3],
  'time.diff': [[NOW_NS, 'Asia/Kolkata'], 0],
  'time.parse_rfc3339_ns': ['2026-11-23T09:30:00.123+05:30'],
  'time.parse_duration_ns': ['-1h30m1.5s'],
};

/** Builtins of ours with arguments that a request may choose: an answer in JSON or none, bounded; nothing is thrown but for a range that is too long. */
export const target: FuzzTarget = {
  seeds: words(...Object.entries(CALLS).map(([name, args]) => JSON.stringify([name, ...args]))),
  dictionary: [
    ...JSON_WORDS,
    ...words(
      ...NAMES,
      'UTC',
      'Local',
      'Etc/GMT+12',
      '2006-01-02',
      '.999999999',
      '%C3',
      '9223372036854775807',
      '1e18',
      '٣',
      '𝄞',
      'ß',
    ),
  ],
  maxBytes: 2048,
  check(input) {
    const call = readCall(input.toString('utf8'));
    if (call === undefined) return 'no call';
    const [name, ...args] = call;
    const builtin = Object.hasOwn(BUILTINS, name) ? BUILTINS[name] : undefined;
    if (builtin === undefined) return 'no builtin';
    const answer = answerOf(() => builtin(...args));
    const text = answer instanceof ArrayBuffer ? Buffer.from(answer).toString() : JSON.stringify(answer);
    requireThat(
      text === undefined || text.length <= MAX_TIMES * input.length + MAX_MORE,
      'an answer that is too long',
    );
    if (answer instanceof ArrayBuffer) requireThat(/^-?\d+$/.test(text), 'an exact number that is none');
    return `${name} ${answer === null ? 'null' : typeof answer}`;
  },
};

function readCall(text: string): readonly [string, ...Json[]] | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return Array.isArray(value) && typeof value[0] === 'string' ? (value as [string, ...Json[]]) : undefined;
  } catch {
    return undefined;
  }
}

function answerOf(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    if (error instanceof RangeError && error.message.startsWith('numbers.range_step')) return 'too long';
    throw error;
  }
}
