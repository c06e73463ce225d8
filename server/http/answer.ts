import type { z } from 'zod';

/** What a route answers when it succeeds. */
export interface AnswerKind<T> {
  readonly status: number;
  readonly description: string;
  /** Undefined for an empty answer. */
  readonly mediaType: string | undefined;
  /** Of a JSON answer, or of one line of a stream. */
  readonly schema: z.ZodType | undefined;
  toResponse(value: T): Response;
}

/** A JSON answer. `schema` describes what is sent; the value is of its input side, as it stands on the wire. */
export function jsonAnswer<S extends z.ZodType>(
  schema: S,
  options: { readonly status?: 200 | 201; readonly description?: string } = {},
): AnswerKind<z.input<S>> {
  const status = options.status ?? 200;
  return {
    status,
    description: options.description ?? (status === 201 ? 'Created' : 'OK'),
    mediaType: 'application/json',
    schema,
    toResponse: (value) =>
      new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json' } }),
  };
}

/** 204 without a body. */
export function emptyAnswer(description: string): AnswerKind<void> {
  return {
    status: 204,
    description,
    mediaType: undefined,
    schema: undefined,
    toResponse: () => new Response(null, { status: 204 }),
  };
}

/** An answer that the handler builds itself: a stream, a page, an artefact. */
export function ownAnswer(options: {
  readonly mediaType: string;
  readonly description: string;
  readonly schema?: z.ZodType;
}): AnswerKind<Response> {
  return {
    status: 200,
    description: options.description,
    mediaType: options.mediaType,
    schema: options.schema,
    toResponse: (response) => response,
  };
}
