import { parseStrictJson } from '../../../shared/wire/strict-json.ts';
import { JSON_WORDS } from '../json-words.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** JSON in which no object names a member twice: as many members as names stand in the text. */
export const target: FuzzTarget = {
  seeds: words('{"a":{"b":[1,"x:y",{"c":null}]},"d":"\\"{"}', '[]', '"\\u0061"', '{"a":1,"\\u0061":2}'),
  dictionary: JSON_WORDS,
  maxBytes: 60_000,
  check(input) {
    const value = parseStrictJson(input.toString('utf8'), { maxCharacters: 50_000 });
    const text = JSON.stringify(value);
    requireSame(JSON.stringify(parseStrictJson(text, { maxCharacters: Infinity })), text, 'JSON read again');
    const colons = input
      .toString('utf8')
      .replaceAll(/"(?:[^"\\]|\\.)*"/g, '')
      .split(':').length;
    const again = text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '').split(':').length;
    requireThat(colons === again, 'a member was lost');
    return `${typeof value} ${Math.min(8, colons)}`;
  },
};
