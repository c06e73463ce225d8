import { PicketError } from '../errors/errors.ts';

/**
 * A request target as policy and application both read it. `path` includes the query. The target itself is passed on unchanged, so one
 * that two programs could read in two ways is refused instead of being repaired: percent-encoded letters, digits, `-._~`, slashes,
 * backslashes and control characters (in more bytes than UTF-8 has for them, too), dot segments (also as `..;x`, which servlet containers resolve), and empty segments. So is one of more parts than programs take: the policy gets each of them by itself, and would be
 * busy with one request as long as with a thousand.
 */
export interface RequestTarget {
  readonly path: string;
  /** The authority of an absolute-form target in lower case; null for the other forms. */
  readonly authority: string | null;
}

const MAX_SEGMENTS = 256;
/** Of a query; about as many as PHP and Tomcat take. */
const MAX_PARAMETERS = 1024;

const BAD_ESCAPE = /%(?![0-9A-Fa-f]{2})/;
/** What a server may or may not decode before it routes: control characters, `-./`, digits, letters, `\`, `_` and `~`. */
const AMBIGUOUS_ESCAPE =
  /%(?:[01][0-9A-Fa-f]|2[D-Fd-f]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEeFf])/;
/** What a careless decoder takes for one of those, or for another character that is shorter in UTF-8 (RFC 3629, 3): `%C0%AF` for `/`. */
const OVERLONG_ESCAPES = /%(?:[Cc][01]%[89ABab]|[Ee]0%[89]|[Ff]0%8)[0-9A-Fa-f]/;
const ABSOLUTE = /^[Hh][Tt][Tt][Pp]:\/\/([^/?]*)(.*)$/;
const AUTHORITY = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=-]+)(?::[0-9]{1,5})?$/;
const LAST_DOT = /\.(?::|$)/;

/**
 * Parses the target of a request whose bytes are all visible ASCII without `#` and `\`. Throws `invalid_argument`, reason
 * `http1_target_refused`; CONNECT is refused whole, since what follows it would pass undecided.
 */
export function parseRequestTarget(method: string, target: string): RequestTarget {
  if (method === 'CONNECT') throw refused('CONNECT is not relayed');
  if (target === '*') {
    if (method !== 'OPTIONS') throw refused('only OPTIONS may ask for *');
    return { path: target, authority: null };
  }
  if (target.startsWith('/')) {
    requirePlainPath(target);
    return { path: target, authority: null };
  }
  const absolute = ABSOLUTE.exec(target);
  if (absolute === null) throw refused('it is neither a path nor an http URL');
  const [, authority = '', rest = ''] = absolute;
  requireAuthority(authority);
  if (rest !== '' && !rest.startsWith('/')) throw refused('the path is missing');
  requirePlainPath(rest === '' ? '/' : rest);
  return { path: rest === '' ? '/' : rest, authority: authority.toLowerCase() };
}

/** Throws like `parseRequestTarget` for a Host that names no host: user information, path characters, an empty name; and for a last dot, which some programs cut off and others do not. */
export function requireAuthority(text: string): void {
  if (!AUTHORITY.test(text)) throw refused('the host is not valid');
  if (LAST_DOT.test(text)) throw refused('the host ends with a dot');
}

function requirePlainPath(target: string): void {
  const query = target.indexOf('?');
  requireEscapes(target, query < 0 ? target.length : query);
  if (query >= 0) requireFewParameters(target, query + 1);
  let start = 1;
  const path = query < 0 ? target : target.slice(0, query);
  for (let segments = 1; ; segments++) {
    if (segments > MAX_SEGMENTS) throw refused(`the path has more than ${MAX_SEGMENTS} segments`);
    const slash = path.indexOf('/', start);
    const segment = slash < 0 ? path.slice(start) : path.slice(start, slash);
    if (segment === '' && slash >= 0) throw refused('a path segment is empty');
    if (/^\.{1,2}(?:;.*)?$/.test(segment)) throw refused('a path segment is a dot segment');
    if (slash < 0) return;
    start = slash + 1;
  }
}

function requireFewParameters(target: string, queryStart: number): void {
  let parameters = 1;
  for (let at = target.indexOf('&', queryStart); at >= 0; at = target.indexOf('&', at + 1))
    if (++parameters > MAX_PARAMETERS) throw refused(`the query has more than ${MAX_PARAMETERS} parameters`);
}

/** Every percent sign must begin an escape; within the path (before `pathEnd`) the escape must be one that all servers keep apart. One pass of each: a target may be all escapes. */
function requireEscapes(target: string, pathEnd: number): void {
  if (BAD_ESCAPE.test(target)) throw refused('a percent sign begins no escape');
  const path = target.slice(0, pathEnd);
  const [ambiguous] = AMBIGUOUS_ESCAPE.exec(path) ?? OVERLONG_ESCAPES.exec(path) ?? [];
  if (ambiguous !== undefined) throw refused(`${ambiguous} may not be escaped in a path`);
}

function refused(why: string): PicketError {
  return new PicketError(
    'invalid_argument',
    'http1_target_refused',
    `Cannot relay the request target: ${why}`,
  );
}
