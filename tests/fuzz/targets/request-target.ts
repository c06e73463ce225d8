import { parseRequestPath } from '../../../shared/policy/request-path.ts';
import { parseRequestTarget } from '../../../shared/wire/http1-target.ts';
import { TARGET_BYTES } from '../../../shared/wire/http1-syntax.ts';
import { HTTP1_WORDS } from '../http1-words.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** Paths: what the policy sees is what a URL parser, which resolves dots and turns slashes, makes of the same target. */
export const target: FuzzTarget = {
  seeds: words(
    '/api/v1/caf%C3%A9?x=1&x=%32&flag',
    'http://shop:80/a/b;c=d?e',
    '/',
    '*',
    '/a/..;x/b',
    '/a%2fb',
    '/...',
    '/a//b',
  ),
  dictionary: HTTP1_WORDS,
  maxBytes: 1024,
  check(input) {
    const text = input.toString('latin1');
    requireThat(
      input.every((byte) => byte < 256),
      'bytes',
    );
    const policy = attempt(() => parseRequestPath(text));
    // What stands in a head before the target is parsed.
    if (text === '' || input.some((byte) => TARGET_BYTES[byte] === 0)) return 'no target';
    const { path } = parseRequestTarget('OPTIONS', text);
    const seen = attempt(() => parseRequestPath(path));
    if (seen.refusal !== undefined) return `relayed, ${outcomeOfRefusal(seen.refusal)}`;
    if (path !== '*') requireSameUrl(path, seen.value);
    return `${policy.refusal === undefined} ${path.includes('?')} ${text.startsWith('/')}`;
  },
};

function requireSameUrl(path: string, seen: ReturnType<typeof parseRequestPath>): void {
  const url = new URL(`http://host${path}`);
  requireSame(decodeURIComponent(url.pathname), decodeURIComponent(seen.path), 'the path for a URL parser');
  const segments = url.pathname.split('/').slice(1).map(decodeURIComponent);
  requireSame(segments, [...seen.parsedPath], 'the segments for a URL parser');
}
