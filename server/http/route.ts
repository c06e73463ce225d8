import type { z } from 'zod';
import type { AnswerKind } from './answer.ts';
import { validate, type BodyKind } from './body.ts';
import type { Caller } from './caller.ts';

export type HttpMethod = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** What a handler knows beside its validated input. */
export interface RequestContext<C extends Caller> {
  readonly caller: C;
  /** Address of the peer, or `local` on the unix socket. */
  readonly remoteAddress: string;
  /** Aborted when the client is gone, the time is over or the server drains. */
  readonly signal: AbortSignal;
  readonly headers: Headers;
  /** SHA-256 of the DER of the certificate that the server showed on this connection; undefined on the unix socket. */
  readonly serverCertificateSha256: Uint8Array | undefined;
}

/** One definition from which come validation, authorization, audit and the OpenAPI document. */
export interface RouteDefinition<C extends Caller, P, Q, B, A> {
  readonly method: HttpMethod;
  /** Path with `:name` for parameters. */
  readonly path: `/${string}`;
  /** `noun.verb`, what policies/admin and the operators' log call it. */
  readonly action: string;
  readonly tag: string;
  readonly summary: string;
  /** Whether it changes anything: such a call is written to the operators' log. By default everything but GET. */
  readonly isMutating?: boolean;
  /** Throws why the caller is not heard now, before anything else of the request is read. */
  readonly admit?: (caller: C) => void;
  readonly params?: z.ZodType<P>;
  readonly query?: z.ZodType<Q>;
  readonly body?: BodyKind<B>;
  readonly answer: AnswerKind<A>;
  /** How long it may take; the usual time of `LIMITS` if absent. 0: as long as the client stays (streams). */
  readonly timeoutMs?: number;
  /** What the call is about, for authorization and the log; by default the values of the path's parameters. */
  readonly subject?: (input: RouteInput<P, Q, B>) => string;
  /** What the operators' log keeps of the input beside the subject. Never secrets. */
  readonly logged?: (input: RouteInput<P, Q, B>) => Readonly<Record<string, unknown>>;
  readonly handle: (input: RouteInput<P, Q, B>, context: RequestContext<C>) => Promise<A> | A;
}

export interface RouteInput<P, Q, B> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
}

/** The parts of a request before they are validated. */
export interface RawInput {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly body: { readonly bytes: Uint8Array; readonly mediaType: string } | undefined;
}

/** A request whose every part is valid and which can be run once it is authorized. */
export interface PreparedRequest<C extends Caller> {
  readonly subject: string;
  readonly input: RouteInput<unknown, unknown, unknown>;
  readonly logged: Readonly<Record<string, unknown>>;
  run(context: RequestContext<C>): Promise<Response>;
}

/** A route whose types are closed over, so that routes of every shape stand in one table. */
export interface Route<C extends Caller> {
  readonly method: HttpMethod;
  readonly path: string;
  readonly action: string;
  readonly tag: string;
  readonly summary: string;
  readonly isMutating: boolean;
  readonly timeoutMs: number | undefined;
  readonly admit: ((caller: C) => void) | undefined;
  readonly paramsSchema: z.ZodType | undefined;
  readonly querySchema: z.ZodType | undefined;
  readonly body: Pick<BodyKind<unknown>, 'maxBytes' | 'media'> | undefined;
  readonly answer: Omit<AnswerKind<never>, 'toResponse'>;
  /** Throws `invalid_argument`, reason `request_invalid` or `json_invalid`. */
  prepare(raw: RawInput): PreparedRequest<C>;
}

/** Makes the `defineRoute` of one kind of caller. */
export function routesFor<C extends Caller>() {
  return function defineRoute<P = unknown, Q = unknown, B = unknown, A = unknown>(
    definition: RouteDefinition<C, P, Q, B, A>,
  ): Route<C> {
    const { method, path, action, tag, summary, timeoutMs } = definition;
    return {
      method,
      path,
      action,
      tag,
      summary,
      timeoutMs,
      isMutating: definition.isMutating ?? method !== 'GET',
      admit: definition.admit,
      paramsSchema: definition.params,
      querySchema: definition.query,
      body: definition.body,
      answer: definition.answer,
      prepare: (raw) => prepare(definition, raw),
    };
  };
}

function prepare<C extends Caller, P, Q, B, A>(
  definition: RouteDefinition<C, P, Q, B, A>,
  raw: RawInput,
): PreparedRequest<C> {
  const { params, query, body, answer } = definition;
  const input: RouteInput<P, Q, B> = {
    params: (params === undefined ? undefined : validate(params, raw.params, 'path')) as P,
    query: (query === undefined ? undefined : validate(query, raw.query, 'query')) as Q,
    body: (body === undefined || raw.body === undefined
      ? undefined
      : body.parse(raw.body.bytes, raw.body.mediaType)) as B,
  };
  return {
    input,
    subject: definition.subject?.(input) ?? Object.values(raw.params).join(' '),
    logged: definition.logged?.(input) ?? {},
    run: async (context) => answer.toResponse(await definition.handle(input, context)),
  };
}
