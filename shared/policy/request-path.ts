import { PicketError } from '../errors/errors.ts';

/** The target of a request, taken apart as Envoy's OPA plugin does. */
export interface RequestPath {
  /** Without the query, exactly as sent. */
  readonly path: string;
  /** The query without its question mark, exactly as sent. */
  readonly query: string;
  /** The decoded path without its leading slashes, cut at every slash. */
  readonly parsedPath: readonly string[];
  /** Decoded names and their values in order. What cannot be decoded stays as it was sent. */
  readonly parsedQuery: Readonly<Record<string, readonly string[]>>;
}

/**
 * Takes a request target apart. Throws PicketError `internal`, reason `policy_error`, for a path that an application could read as another
 * one than the policy did: dot segments, in whatever spelling, escapes that are malformed or no UTF-8, control characters.
 */
export function parseRequestPath(target: string): RequestPath {
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? '' : target.slice(mark + 1);
  const decoded = decodePath(path);
  if (decoded.split(/[/\\]/).some((segment) => segment === '.' || segment === '..'))
    throw ambiguous('it holds a dot segment');
  if (/\p{Cc}/u.test(decoded)) throw ambiguous('it holds a control character');
  return { path, query, parsedPath: decoded.replace(/^\/+/, '').split('/'), parsedQuery: parseQuery(query) };
}

/** The empty path of a connection that carries no request. */
export const NO_REQUEST_PATH: RequestPath = { path: '', query: '', parsedPath: [], parsedQuery: {} };

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw ambiguous('an escape in it is malformed');
  }
}

function parseQuery(query: string): Readonly<Record<string, readonly string[]>> {
  const values = new Map<string, string[]>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decodePart(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : decodePart(pair.slice(equals + 1));
    const known = values.get(name);
    if (known === undefined) values.set(name, [value]);
    else known.push(value);
  }
  return Object.fromEntries(values);
}

function decodePart(text: string): string {
  const spaced = text.replaceAll('+', ' ');
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

function ambiguous(why: string): PicketError {
  return new PicketError('internal', 'policy_error', `The path of the request is ambiguous: ${why}`);
}
