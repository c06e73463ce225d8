import { z } from 'zod';
import { formatPageCursor, parsePageCursor } from '../../../server/datastore/page-cursor.ts';
import { JSON_WORDS } from '../json-words.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** The shapes of cursors that the server gives. */
const KEYS = [
  z.tuple([z.string()]),
  z.tuple([z.number()]),
  z.tuple([z.string(), z.uuid()]),
  z.tuple([z.number(), z.string(), z.string(), z.number()]),
];
const ID = '0190a000-0000-7000-8000-000000000001';
const REAL = [
  ['spiffe://example.org/web'],
  [17],
  ['spiffe://example.org/web', ID],
  [1_795_514_400_000, 'spiffe://example.org/a', 'e', 9],
];

/** Cursors of pages, which operators send back: texts and numbers that a database takes. Each input is tried as it is and as the inside of a cursor. */
export const target: FuzzTarget = {
  seeds: [
    ...words(...REAL.map((key) => formatPageCursor(key))),
    ...words(...REAL.map((key) => JSON.stringify(key))),
  ],
  dictionary: [
    ...JSON_WORDS,
    ...words(ID, '[1,"a","b",2]', '["', '"]', '9007199254740992', '-1', '1e30', '=', '-_'),
  ],
  maxBytes: 6000,
  check: (input) =>
    [input.toString('latin1'), input.toString('base64url')]
      .flatMap((text) => KEYS.map((key) => wayOf(text, key)))
      .join(' '),
};

function wayOf(text: string, key: z.ZodType<readonly (string | number)[]>): string {
  const { value, refusal } = attempt(() => parsePageCursor(text, key));
  if (value === undefined) return outcomeOfRefusal(refusal);
  for (const part of value)
    requireThat(
      typeof part === 'number' ? Number.isSafeInteger(part) : !part.includes('\0') && part.isWellFormed(),
      `${JSON.stringify(part)} is nothing that a database takes`,
    );
  const again = parsePageCursor(formatPageCursor(value), key);
  requireSame(formatPageCursor(again), formatPageCursor(value), 'a cursor read again');
  return value.map((part) => typeof part).join();
}
