import { PicketError } from '../errors/errors.ts';

declare const selectorBrand: unique symbol;

/** A fact that attestation proved, as `type:value`, for example `unix:uid:1000` or `tpm:pub_hash:…`. */
export type Selector = string & { readonly [selectorBrand]: true };

/** The longest selector that is accepted, in bytes of UTF-8. */
export const MAX_SELECTOR_BYTES = 1024;

/** Parses `type:value`; the type is lower case and the value not empty. Throws `invalid_argument`, reason `selector_invalid`. */
export function parseSelector(text: string): Selector {
  if (Buffer.byteLength(text) > MAX_SELECTOR_BYTES)
    throw invalid(`${text.slice(0, 60)}…`, `it is longer than ${MAX_SELECTOR_BYTES} bytes`);
  if (!/^[a-z0-9_]+:[^\p{Cc}]+$/u.test(text))
    throw invalid(text, 'expected type:value, such as unix:uid:1000');
  return text as Selector;
}

/** Whether a process or node that has `present` earns an entry that asks for all of `required`. An empty requirement is never earned. */
export function areSelectorsEarned(required: readonly Selector[], present: ReadonlySet<Selector>): boolean {
  return required.length > 0 && required.every((selector) => present.has(selector));
}

function invalid(text: string, why: string): PicketError {
  return new PicketError('invalid_argument', 'selector_invalid', `Cannot parse selector "${text}": ${why}`);
}
