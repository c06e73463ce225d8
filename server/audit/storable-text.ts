/**
 * A text as PostgreSQL takes it, which refuses NUL and half a surrogate pair. What was asked for may hold anything, and must be on record all the same: a record that cannot be stored would block its
 * spool for ever.
 */
export function storableText(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\u{fffd}');
}
