import { beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPolicy } from '../../../tests/kit/build-policy.ts';
import { createOpaWasmLoader } from '../opa-wasm.ts';
import { createHostBuiltins } from './supported-builtins.ts';

const NOV = 1795426200123000000;
const FEB_29 = 1709164800000000000;
/** The evening before Berlin's clocks went forward in 2024. */
const MAR_30 = 1711756800000000000;

/** Builtin to lists of arguments. They come through the input, so that OPA's type checker lets wrong ones pass. */
const CASES: Readonly<Record<string, readonly (readonly unknown[])[]>> = {
  'strings.any_prefix_match': [
    ['abc', 'ab'],
    ['abc', ['x', 'a']],
    [['a'], []],
    [['a'], [1]],
    [1, 'a'],
  ],
  'strings.any_suffix_match': [
    ['abc', 'bc'],
    [['abc', 'x'], ['b']],
    ['', ''],
  ],
  'strings.count': [
    ['cheese', 'e'],
    ['', 'a'],
    ['aaa', 'aa'],
    [5, 'a'],
  ],
  indexof_n: [
    ['aXbXé', 'X'],
    ['ééX', 'X'],
    ['a', ''],
    ['aaa', 'aa'],
    ['a', 1],
  ],
  'hex.encode': [['é\u0000'], [''], [1]],
  'hex.decode': [['c3a9'], ['C3A9'], ['abc'], ['zz']],
  'base64url.encode_no_pad': [['é??>'], ['']],
  'glob.quote_meta': [['a*b?[c]{d}\\']],
  'urlquery.encode': [["a b&c=é!'()*~-._"]],
  'urlquery.decode': [['a+b%26c%C3%A9'], ['%zz']],
  'crypto.md5': [['x']],
  'crypto.sha1': [['x']],
  'crypto.sha256': [['é'], [1]],
  'crypto.hmac.sha256': [['x', 'key']],
  'crypto.hmac.sha512': [['x', 'key']],
  'numbers.range_step': [
    [1, 10, 3],
    [10, 1, 3],
    [1, 1, 1],
    [1, 5, 0],
    [1, 5, -1],
    [1, 5, 0.5],
    ['a', 5, 1],
  ],
  'semver.is_valid': [['1.2.3'], ['1.2'], ['1.2.3-a.1+b'], ['01.2.3'], ['1.2.3-01'], ['1.2.3-'], [5]],
  'semver.compare': [
    ['1.2.3', '1.10.0'],
    ['1.0.0-a', '1.0.0'],
    ['1.0.0', '1.0.0-a'],
    ['1.0.0-2', '1.0.0-10'],
    ['1.0.0-a', '1.0.0-1'],
    ['1.0.0+a', '1.0.0+b'],
    ['1.0.0-a.b', '1.0.0-a'],
    ['x', '1.0.0'],
  ],
  'object.subset': [
    [{ a: 1, b: { c: 2, d: 3 } }, { b: { c: 2 } }],
    [{ a: 1 }, { a: 2 }],
    [{ a: 1 }, {}],
    [{ a: {} }, { a: 1 }],
    [{ a: null }, { b: null }],
  ],
  'io.jwt.decode': [
    ['eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAEC'],
    ['a.b'],
    ['eyJhbGciOiJFUzI1NiJ9.bm90.AA'],
    [1],
  ],
  'time.clock': [
    [NOV],
    [[NOV, 'Europe/Berlin']],
    [[0, 'America/New_York']],
    [[0, 'Nowhere/City']],
    [[-1_000_000, 'UTC']],
    [1.5],
    ['x'],
    [[]],
  ],
  'time.date': [[0], [-1_000_000], [[MAR_30, 'Europe/Berlin']], [2e19], [[0, 5]]],
  'time.weekday': [[0], [[NOV, 'Pacific/Auckland']]],
  'time.format': [
    [NOV],
    [[NOV, 'Europe/Berlin']],
    [[0, '', 'RFC1123Z']],
    [[NOV, 'Asia/Kolkata', 'Monday, 02-Jan-06 3:04:05.000PM Z07:00']],
    [[NOV, 'America/New_York', '2006-01-02T15:04:05-0700']],
    [[NOV, '', 'Jan _2 15:04:05.99']],
  ],
  'time.add_date': [
    [NOV, 0, 1, 0],
    [FEB_29, 1, 0, 0],
    [FEB_29, 0, 1, -31],
    [0, -1, -1, -1],
    [[MAR_30, 'Europe/Berlin'], 0, 0, 1],
    [0, 1000, 0, 0],
    [0, 0, 0.5, 0],
  ],
  'time.diff': [
    [NOV, 0],
    [0, NOV],
    [[MAR_30, 'Europe/Berlin'], MAR_30 + 9e13],
    [FEB_29, 1711929600000000000],
    [0, 'x'],
  ],
  'time.parse_rfc3339_ns': [
    ['2026-11-23T09:30:00.123Z'],
    ['2026-11-23T09:30:00+05:30'],
    ['2026-11-23T09:30:00-00:30'],
    ['2024-02-29T00:00:00Z'],
    ['2023-02-29T00:00:00Z'],
    ['2026-11-23T24:00:00Z'],
    ['2026-11-23 09:30:00Z'],
    ['1600-01-01T00:00:00Z'],
    [''],
    [5],
  ],
  'time.parse_duration_ns': [
    ['1h30m'],
    ['-1.5s'],
    ['0'],
    ['1d'],
    ['2w'],
    ['1y'],
    ['100ms'],
    ['5'],
    [''],
    ['1.s'],
    ['.5h'],
    ['1h1'],
    ['99999999h'],
    ['-'],
    ['.s'],
  ],
};

const calls = Object.entries(CASES).flatMap(([name, lists]) => lists.map((list) => ({ name, list })));
const rego = [
  'package picket.check',
  'results contains {"i": -1, "value": true}',
  ...calls.map(
    ({ name, list }, i) =>
      `results contains {"i": ${i}, "value": v} if { v := ${name}(${list.map((_, j) => `input.calls[${i}][${j}]`).join(', ')}) }`,
  ),
].join('\n');
const input = { calls: calls.map(({ list }) => list) };

type Results = readonly { readonly i: number; readonly value: unknown }[];

function evaluateByOpa(): Results {
  const folder = mkdtempSync(join(tmpdir(), 'picket-builtins-'));
  try {
    writeFileSync(join(folder, 'p.rego'), rego);
    writeFileSync(join(folder, 'input.json'), JSON.stringify(input));
    const command = [
      'opa',
      'eval',
      '-f',
      'raw',
      '-d',
      'p.rego',
      '-i',
      'input.json',
      'data.picket.check.results',
    ];
    const run = Bun.spawnSync(command, { cwd: folder });
    if (!run.success) throw new Error(run.stdout.toString() + run.stderr.toString());
    return JSON.parse(run.stdout.toString()) as Results;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('createHostBuiltins()', () => {
  const expected = new Map<number, unknown>();
  const actual = new Map<number, unknown>();

  beforeAll(async () => {
    const artifact = buildPolicy({ rego, entrypoints: ['picket/check/results'] });
    const engine = await createOpaWasmLoader().load(artifact);
    const results = engine.evaluate('picket/check/results', input, 0) as Results;
    for (const { i, value } of results) actual.set(i, value);
    for (const { i, value } of evaluateByOpa()) expected.set(i, value);
  });

  test('both evaluations gave results', () => {
    expect(expected.get(-1)).toBe(true);
    expect(expected.size).toBeGreaterThan(60);
  });

  test.each(calls.map(({ name, list }, i) => [`${name}(${JSON.stringify(list).slice(1, -1)})`, i] as const))(
    '%s is what OPA says',
    (_name, i) => {
      expect(actual.get(i)).toEqual(expected.get(i));
      expect(actual.has(i)).toBe(expected.has(i));
    },
  );

  test('every builtin but the clock has cases', () => {
    const untested = Object.keys(createHostBuiltins(() => 0n)).filter((name) => !(name in CASES));
    expect(untested).toEqual(['time.now_ns']);
  });

  test('numbers.range_step() makes no more than a bounded number of items', () => {
    const { 'numbers.range_step': rangeStep } = createHostBuiltins(() => 0n);
    expect(() => rangeStep!(0, 1e12, 1)).toThrow(RangeError);
  });
});
