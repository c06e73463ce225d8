import { describe, expect, test } from 'bun:test';
import { createOutput, fields, formatBytes, formatDuration, formatSkew, printable, table } from './output.ts';

describe('table()', () => {
  const columns = [
    { title: 'name', of: (row: { readonly name: string }) => row.name },
    { title: 'length', of: (row: { readonly name: string }) => String(row.name.length) },
  ];

  test('table() pads every column to its widest value', () => {
    expect(table([{ name: 'a' }, { name: 'abcdef' }], columns, 'none')).toBe(
      'NAME    LENGTH\na       1\nabcdef  6',
    );
  });

  test('table() says what is missing where there is no row', () => {
    expect(table([], columns, 'Nothing here.')).toBe('Nothing here.');
  });

  test('table() lets no escape sequence of a value reach the terminal', () => {
    expect(table([{ name: '\u001b[2J' }], columns, '')).not.toContain('\u001b');
  });
});

describe('fields()', () => {
  test('fields() aligns the values', () => {
    expect(
      fields([
        ['a', '1'],
        ['long name', '2'],
      ]),
    ).toBe('a:         1\nlong name: 2');
  });
});

describe('formatDuration(), formatBytes() and formatSkew()', () => {
  test.each([
    [-5, '0 s'],
    [1500, '1 s'],
    [60_000, '1 min'],
    [3_725_000, '1 h 2 min'],
    [90_000_000, '1 d 1 h'],
    [86_400_000, '1 d'],
  ])('formatDuration(%i) is %s', (durationMs, text) => {
    expect(formatDuration(durationMs)).toBe(text);
  });

  test.each([
    [0, '0 bytes'],
    [1023, '1023 bytes'],
    [1536, '1.5 KiB'],
    [3 * 1024 ** 4, '3.0 TiB'],
    [3 * 1024 ** 5, '3072.0 TiB'],
  ])('formatBytes(%i) is %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test('formatSkew() says which clock is ahead', () => {
    expect([formatSkew(61_200), formatSkew(-3_600_000)]).toEqual(['61 s ahead', '3600 s behind']);
  });
});

describe('printable()', () => {
  test('printable() makes every control character visible and leaves all else', () => {
    for (let code = 0; code < 256; code++) {
      const text = String.fromCharCode(code);
      const isControl = code < 32 || (code >= 127 && code < 160);
      if (isControl) expect(printable(text)).not.toBe(text);
      else expect(printable(text)).toBe(text);
    }
  });
});

describe('createOutput()', () => {
  const captured = (isJson: boolean) => {
    const out: string[] = [];
    const err: string[] = [];
    const output = createOutput(isJson, { out: (text) => out.push(text), err: (text) => err.push(text) });
    return { output, out, err };
  };

  test('createOutput() prints for people what render makes, and notes on the error stream', () => {
    const { output, out, err } = captured(false);
    output.note('working');
    output.result({ n: 1 }, (v) => `n is ${v.n}`);
    expect([out, err]).toEqual([['n is 1\n'], ['working\n']]);
  });

  test('createOutput() prints for programs one JSON document and no note', () => {
    const { output, out, err } = captured(true);
    output.note('working');
    output.result({ n: 1 }, () => 'never');
    expect(out.map((text): unknown => JSON.parse(text))).toEqual([{ n: 1 }]);
    expect(err).toEqual([]);
  });
});
