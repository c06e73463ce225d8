import { toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import { problemOf } from '../../shared/protocol/problem.ts';

/** The answer to a failed request (RFC 9457): status by the error's code, and never its cause. */
export function problemResponse(error: unknown): Response {
  const picketError = toPicketError(error);
  const problem = problemOf(picketError);
  const headers: Record<string, string> = { 'content-type': 'application/problem+json' };
  if (picketError.code === 'resource_exhausted' || picketError.code === 'unavailable')
    headers['retry-after'] = String(retryAfterSeconds(picketError));
  return new Response(JSON.stringify(problem), {
    status: statusOf(picketError.reason, problem.status),
    headers,
  });
}

/** A second, unless the error knows better. */
function retryAfterSeconds({ details }: PicketError): number {
  const ms = details?.['retry_after_ms'];
  return typeof ms === 'number' ? Math.max(1, Math.ceil(ms / 1000)) : 1;
}

/** Refusals of the HTTP layer itself that RFC 9110 has a status of its own for; clients act on `code`, not on these. */
const HTTP_STATUS: Readonly<Record<string, number>> = {
  body_too_large: 413,
  media_type_unsupported: 415,
  request_timeout: 408,
  method_not_allowed: 405,
  headers_too_large: 431,
};

function statusOf(reason: string, usual: number): number {
  return Object.hasOwn(HTTP_STATUS, reason) ? (HTTP_STATUS[reason] ?? usual) : usual;
}
