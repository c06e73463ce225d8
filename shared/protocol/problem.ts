import { z } from 'zod';
import { ERROR_CODES, PicketError, type ErrorCode } from '../errors/errors.ts';

/** The body of every error answer of the server, media type `application/problem+json` (RFC 9457), with our code and reason. */
export const problem = z.object({
  type: z.literal('about:blank'),
  status: z.number().int(),
  title: z.string(),
  detail: z.string(),
  code: z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]),
  reason: z.string(),
  details: z.record(z.string(), z.unknown()).optional(),
});

export type Problem = z.infer<typeof problem>;

/** What a caller is told of an error: never its cause. */
export function problemOf(error: PicketError): Problem {
  const { httpStatus } = ERROR_CODES[error.code];
  return {
    type: 'about:blank',
    status: httpStatus,
    title: error.code.replaceAll('_', ' '),
    detail: error.message,
    code: error.code,
    reason: error.reason,
    ...(error.details === undefined ? {} : { details: error.details }),
  };
}

/** The error that an answer of the server stands for. A body that is no problem document becomes `unavailable`/`bad_answer`. */
export function errorOfProblem(body: unknown, httpStatus: number): PicketError {
  const parsed = problem.safeParse(body);
  if (!parsed.success)
    return new PicketError(
      'unavailable',
      'bad_answer',
      `The server answered ${httpStatus} without saying why`,
    );
  const { code, reason, detail, details } = parsed.data;
  return new PicketError(code, reason, detail, details === undefined ? {} : { details });
}
