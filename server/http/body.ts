import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';

/** What a route takes as its body: the media types, the bound in bytes and how bytes become a value. */
export interface BodyKind<T> {
  readonly maxBytes: number;
  /** Media type to the schema that describes it, for the OpenAPI document; undefined for bytes. */
  readonly media: Readonly<Record<string, z.ZodType | undefined>>;
  /** `mediaType` is one of `media`. Throws `invalid_argument`. */
  parse(bytes: Uint8Array, mediaType: string): T;
}

/** 64 KiB: room for every ordinary object of the API. */
const ORDINARY_BODY_BYTES = 64 * 1024;

/** A JSON body of at most `maxBytes` that `schema` accepts. */
export function jsonBody<T>(schema: z.ZodType<T>, maxBytes = ORDINARY_BODY_BYTES): BodyKind<T> {
  return {
    maxBytes,
    media: { 'application/json': schema },
    parse: (bytes) => validate(schema, parseJson(bytes), 'body'),
  };
}

/** Reads strict UTF-8 and JSON. Throws `invalid_argument`, reason `json_invalid`. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch (cause) {
    throw new PicketError('invalid_argument', 'json_invalid', 'The body is not valid JSON', { cause });
  }
}

/** Where in a request a value stood. */
export type RequestPart = 'path' | 'query' | 'body';

/** The value as `schema` reads it. Throws `invalid_argument`, reason `request_invalid`, with the first ten issues in `details`. */
export function validate<T>(schema: z.ZodType<T>, value: unknown, part: RequestPart): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.slice(0, 10).map((issue) => ({
    at: [part, ...issue.path.map(String)].join('.').slice(0, 200),
    problem: issue.message.slice(0, 300),
  }));
  const first = issues[0];
  const text = first === undefined ? 'is not valid' : `${first.at}: ${first.problem}`;
  throw new PicketError('invalid_argument', 'request_invalid', `Cannot accept the request: ${text}`, {
    details: { issues },
  });
}
