import { CR, LF } from '../../../shared/wire/http1-syntax.ts';

/** Where the head that begins a piece of bytes ends. `malformed`: a line ends without CR, which no strict parser takes. */
export type HeadScan =
  | { readonly kind: 'complete'; readonly end: number }
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'malformed' };

const INCOMPLETE: HeadScan = { kind: 'incomplete' };
const MALFORMED: HeadScan = { kind: 'malformed' };

/** Looks for the empty line that ends a head which begins at `start`. `from` is where an earlier scan of the same bytes stopped, or `start`. */
export function scanHead(bytes: Buffer, start: number, from: number): HeadScan {
  for (let lf = bytes.indexOf(LF, Math.max(start, from)); lf >= 0; lf = bytes.indexOf(LF, lf + 1)) {
    if (lf === start || bytes[lf - 1] !== CR) return MALFORMED;
    const isEmptyLine = lf - 1 === start || bytes[lf - 2] === LF;
    if (isEmptyLine) return { kind: 'complete', end: lf + 1 };
  }
  return INCOMPLETE;
}

/** Whether `bytes` begin with a head that was read before, and so has its end where that had it. */
export function beginsWith(bytes: Buffer, head: Buffer): boolean {
  const { length } = head;
  return bytes.length >= length && bytes.compare(head, 0, length, 0, length) === 0;
}
