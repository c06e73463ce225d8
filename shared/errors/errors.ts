/**
 * What went wrong, as far as a caller can act on it. The code alone decides the HTTP status, the gRPC status, the exit
 * code of the command line and whether a retry can help.
 */
export const ERROR_CODES = {
  invalid_argument: { httpStatus: 400, exitCode: 2, isRetryable: false },
  unauthenticated: { httpStatus: 401, exitCode: 3, isRetryable: false },
  permission_denied: { httpStatus: 403, exitCode: 3, isRetryable: false },
  not_found: { httpStatus: 404, exitCode: 4, isRetryable: false },
  already_exists: { httpStatus: 409, exitCode: 5, isRetryable: false },
  failed_precondition: { httpStatus: 412, exitCode: 5, isRetryable: false },
  resource_exhausted: { httpStatus: 429, exitCode: 6, isRetryable: true },
  unimplemented: { httpStatus: 501, exitCode: 1, isRetryable: false },
  unavailable: { httpStatus: 503, exitCode: 6, isRetryable: true },
  deadline_exceeded: { httpStatus: 504, exitCode: 6, isRetryable: true },
  internal: { httpStatus: 500, exitCode: 1, isRetryable: false },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Details that may be shown to the caller beside the message, such as the file and line of a refused policy. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/**
 * The one error class of Picket. `reason` is a short snake_case word from a list that each capability keeps closed; tests and
 * metrics use it. `message` may be shown to the caller. `cause` never leaves the process.
 */
export class PicketError extends Error {
  override readonly name = 'PicketError';
  readonly code: ErrorCode;
  readonly reason: string;
  readonly details: ErrorDetails | undefined;

  constructor(
    code: ErrorCode,
    reason: string,
    message: string,
    options: { readonly cause?: unknown; readonly details?: ErrorDetails } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = reason;
    this.details = options.details;
  }
}

/** The error itself if it is ours, otherwise an internal error that keeps the foreign one as its cause and shows nothing of it. */
export function toPicketError(error: unknown): PicketError {
  if (error instanceof PicketError) return error;
  return new PicketError('internal', 'unexpected', 'An unexpected error occurred', { cause: error });
}

/** What `work` failed with; undefined when it did not. */
export async function failureOf(work: Promise<unknown>): Promise<PicketError | undefined> {
  return await work.then(() => undefined, toPicketError);
}

/** One line on an error for a log: reason and message, followed by the messages of its causes. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let current: unknown = error; current !== undefined && parts.length < 5;) {
    if (!(current instanceof Error)) {
      parts.push(typeof current === 'string' ? current : JSON.stringify(current));
      break;
    }
    parts.push(current instanceof PicketError ? `${current.reason}: ${current.message}` : current.message);
    current = current.cause;
  }
  return parts.join('; caused by ');
}
