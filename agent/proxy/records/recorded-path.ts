import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';

/** What records keep of a query: the names of its parameters, all of it, or nothing. */
export type RecordedQueries = 'names' | 'full' | 'none';

const MAX_PATH = 8192;
/** In the place of a value. */
const HIDDEN = '*';
const NO_VALUE = /^[^=]*=*$/;

/**
 * The path of a request as records have it, cut to what fits there. A query may hold a token or a signed URL, so with `names` each value stands as `*`. What has no
 * value stands as `*` whole: it may be a secret by itself, in base64 with `=` at its end.
 */
export function recordedPath({ path }: DecisionHttpRequest, queries: RecordedQueries): string {
  const cut = path.length > MAX_PATH ? path.slice(0, MAX_PATH) : path;
  if (queries === 'full') return cut;
  const mark = cut.indexOf('?');
  if (mark < 0) return cut;
  return queries === 'none' ? cut.slice(0, mark) : hideValues(cut, mark + 1);
}

/** Only `&` parts parameters: where programs take `;` as well, a second parameter is part of the first one's value. */
function hideValues(path: string, queryStart: number): string {
  let shown = path.slice(0, queryStart);
  for (let start = queryStart; ;) {
    const next = path.indexOf('&', start);
    if (next < 0) return shown + hideValue(path.slice(start));
    shown += `${hideValue(path.slice(start, next))}&`;
    start = next + 1;
  }
}

/** Its name, unless nothing but `=` follows. */
function hideValue(parameter: string): string {
  if (parameter === '') return '';
  return NO_VALUE.test(parameter) ? HIDDEN : parameter.slice(0, parameter.indexOf('=') + 1) + HIDDEN;
}
