import { parseSelector } from '../../../shared/spiffe/selector.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Selectors stay as they are, without control characters. */
export const target: FuzzTarget = {
  seeds: words('unix:uid:1000', 'unix:path:/usr/bin/caf\u00e9', `tpm:pub_hash:${'a'.repeat(64)}`),
  dictionary: words(':', '::', '\n', '\0', '\u0085', '\u{1f600}', 'unix:', ' ', '\ufffd', '\r'),
  maxBytes: 1200,
  check(input) {
    const text = input.toString('utf8');
    requireSame(parseSelector(text), text, 'a selector');
    requireThat(text.indexOf(':') > 0 && !/\p{Cc}/u.test(text), 'a selector that is none');
    return text.slice(0, text.indexOf(':')).length > 4 ? 'long type' : 'short type';
  },
};
