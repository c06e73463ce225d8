import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { readBody, type BodyBound } from './limits.ts';
import type { Caller } from './caller.ts';
import type { RawInput, Route } from './route.ts';

/** Reads the parts of a request that a route takes, within the bounds of both. Throws `invalid_argument` or `deadline_exceeded`. */
export async function readInput<C extends Caller>(
  route: Route<C>,
  request: Request,
  options: {
    readonly params: Readonly<Record<string, string>>;
    readonly bound: BodyBound;
    readonly clock: Clock;
  },
): Promise<RawInput> {
  const { bound, clock } = options;
  const query = readQuery(request.url, route.querySchema !== undefined);
  if (route.body === undefined) {
    await readBody(request, { ...bound, maxBytes: 0, clock });
    return { params: options.params, query, body: undefined };
  }
  const mediaType = requireMediaType(request.headers, Object.keys(route.body.media));
  const bytes = await readBody(request, { ...bound, maxBytes: route.body.maxBytes, clock });
  return { params: options.params, query, body: { bytes, mediaType } };
}

function readQuery(url: string, isTaken: boolean): Readonly<Record<string, string>> {
  const { searchParams } = new URL(url);
  const query = new Map<string, string>();
  for (const [name, value] of searchParams) {
    // Two readers that pick different ones of a repeated parameter are a way past a check.
    if (query.has(name)) throw invalid(`The query parameter "${name.slice(0, 60)}" is given more than once`);
    query.set(name, value);
  }
  if (!isTaken && query.size > 0) throw invalid('This path takes no query parameters');
  return Object.fromEntries(query);
}

function requireMediaType(headers: Headers, accepted: readonly string[]): string {
  const encoding = headers.get('content-encoding') ?? 'identity';
  const [mediaType = '', ...parameters] = (headers.get('content-type') ?? '')
    .split(';')
    .map((part) => part.trim().toLowerCase());
  const isPlain = parameters.every((parameter) => parameter === '' || parameter === 'charset=utf-8');
  if (encoding === 'identity' && isPlain && accepted.includes(mediaType)) return mediaType;
  throw new PicketError(
    'invalid_argument',
    'media_type_unsupported',
    `The body must be ${accepted.join(' or ')} without content encoding`,
  );
}

function invalid(message: string): PicketError {
  return new PicketError('invalid_argument', 'request_invalid', message);
}
