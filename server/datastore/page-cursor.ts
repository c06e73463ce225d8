import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';

/** The longest cursor that is read, in characters. */
const MAX_CURSOR_CHARACTERS = 4096;

/** The limits of a page: how many rows when nobody says, and at most. */
const DEFAULT_PAGE_SIZE = 100;
export const MAX_PAGE_SIZE = 1000;

/** Where a page ends, as an opaque text for the caller. */
export function formatPageCursor(lastKey: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(lastKey)).toString('base64url');
}

/** The inverse; `key` says what the cursor must hold. Throws `invalid_argument`, reason `cursor_invalid`. */
export function parsePageCursor<Key>(text: string, key: z.ZodType<Key>): Key {
  const parts = text.length > MAX_CURSOR_CHARACTERS ? undefined : decode(text);
  const parsed = key.safeParse(parts);
  if (parsed.success && Array.isArray(parts) && parts.every(isStorable)) return parsed.data;
  throw new PicketError('invalid_argument', 'cursor_invalid', 'The cursor is not one that this server gave');
}

/** A wished page size within its limits. Throws `invalid_argument`, reason `limit_invalid`. */
export function requirePageSize(limit: number | undefined): number {
  const size = limit ?? DEFAULT_PAGE_SIZE;
  if (Number.isInteger(size) && size >= 1 && size <= MAX_PAGE_SIZE) return size;
  throw new PicketError(
    'invalid_argument',
    'limit_invalid',
    `A page holds 1 to ${MAX_PAGE_SIZE} items, not ${size}`,
  );
}

/** The rows of one page, and where the next one begins; absent on the last page. */
export interface CutPage<Row> {
  readonly page: readonly Row[];
  readonly next: { readonly nextCursor?: string };
}

/** Cuts a page from rows of which one more than `limit` was asked for, which shows that another page follows. `keyOf` is what the cursor holds of the last row. */
export function cutPage<Row>(
  rows: readonly Row[],
  { limit, keyOf }: { readonly limit: number; readonly keyOf: (last: Row) => readonly (string | number)[] },
): CutPage<Row> {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  if (rows.length <= limit || last === undefined) return { page, next: {} };
  return { page, next: { nextCursor: formatPageCursor(keyOf(last)) } };
}

/** The name after which a page by name begins; undefined for the first page. Throws as `parsePageCursor`. */
export function parseNameCursor(cursor: string | undefined): string | undefined {
  return cursor === undefined ? undefined : parsePageCursor(cursor, z.tuple([z.string()]))[0];
}

/** A database refuses a text with a NUL or half a character in it, and a number that is no integer of its columns. */
function isStorable(part: unknown): boolean {
  return typeof part === 'string' ? !part.includes('\0') && part.isWellFormed() : Number.isSafeInteger(part);
}

function decode(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
}
