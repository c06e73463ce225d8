import type { Context, Hono } from 'hono';
import { addressKey } from '../../shared/runtime/address-key.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { Caller } from './caller.ts';
import type { HttpLimits } from './limits.ts';
import { guardedRequestOf } from './listeners/connection-guard.ts';
import { peerConnectionOf, type NodeBindings, type PeerConnection } from './peer-connection.ts';
import { readInput } from './request-input.ts';
import type { PreparedRequest, RawInput, RequestContext, Route } from './route.ts';

export interface HttpEnvironment {
  Bindings: NodeBindings;
}

/** What stands between a request and its handler. */
export interface Gate<C extends Caller> {
  /** Who calls. Throws `unauthenticated`. */
  authenticate(connection: PeerConnection): C | Promise<C>;
  /**
   * Runs a valid request if it is allowed, and records it where it must be. Throws `permission_denied`. `prepare` throws what is wrong
   * with the request itself.
   */
  pass(request: GatedRequest<C>, run: (prepared: PreparedRequest<C>) => Promise<Response>): Promise<Response>;
}

export interface GatedRequest<C extends Caller> {
  readonly route: Route<C>;
  readonly caller: C;
  readonly raw: RawInput;
}

export interface RouteOptions<C extends Caller> {
  readonly gate: Gate<C>;
  readonly limits: HttpLimits;
  readonly concurrency: ConcurrencyLimit;
  readonly clock: Clock;
  readonly log: Log;
  /** Aborted when the server drains: streams end then. */
  readonly draining: AbortSignal;
}

/** Puts a table of routes on an app: authentication, bounds, validation, authorization, time-out, in this order. */
export function mountRoutes<C extends Caller>(
  app: Hono<HttpEnvironment>,
  routes: readonly Route<C>[],
  options: RouteOptions<C>,
): void {
  for (const route of routes)
    app.on(route.method, route.path, async (context) => await serve(route, context, options));
}

async function serve<C extends Caller>(
  route: Route<C>,
  context: Context<HttpEnvironment>,
  options: RouteOptions<C>,
): Promise<Response> {
  const connection = peerConnectionOf(context.env);
  const caller = await options.gate.authenticate(connection);
  const isKnown = caller.kind !== 'unproven';
  const leave = options.concurrency.tryEnter(isKnown ? caller.actor : addressKey(connection.remoteAddress));
  if (leave === undefined)
    throw new PicketError('resource_exhausted', 'too_many_requests', 'Too many requests are under way');
  const guarded = guardedRequestOf(context.env.outgoing);
  // What nobody has read yet stands in our memory, and counts.
  guarded.onOver(leave);
  if (isKnown) guarded.prove(caller.actor);
  if (route.timeoutMs === 0) guarded.allowEndless();
  route.admit?.(caller);
  const raw = await readInput(route, context.req.raw, {
    params: context.req.param() as Readonly<Record<string, string>>,
    bound: options.limits,
    clock: options.clock,
  });
  const run = async (prepared: PreparedRequest<C>): Promise<Response> =>
    await runInTime(route, options, {
      client: context.req.raw.signal,
      start: (signal) => prepared.run(requestContext(caller, connection, { context, signal })),
    });
  return await options.gate.pass({ route, caller, raw }, run);
}

function requestContext<C extends Caller>(
  caller: C,
  connection: PeerConnection,
  request: { readonly context: Context<HttpEnvironment>; readonly signal: AbortSignal },
): RequestContext<C> {
  return {
    caller,
    remoteAddress: connection.remoteAddress,
    serverCertificateSha256: connection.serverCertificateSha256,
    headers: request.context.req.raw.headers,
    signal: request.signal,
  };
}

async function runInTime<C extends Caller>(
  route: Route<C>,
  options: RouteOptions<C>,
  work: { readonly client: AbortSignal; readonly start: (signal: AbortSignal) => Promise<Response> },
): Promise<Response> {
  const timeoutMs = route.timeoutMs ?? options.limits.requestMs;
  if (timeoutMs === 0) return await work.start(AbortSignal.any([work.client, options.draining]));
  const deadline = new AbortController();
  const late = Promise.withResolvers<never>();
  const cancel = options.clock.schedule(timeoutMs, () => {
    const error = new PicketError(
      'deadline_exceeded',
      'request_deadline',
      `The request took longer than ${timeoutMs} ms`,
    );
    deadline.abort(error);
    late.reject(error);
  });
  try {
    return await Promise.race([work.start(AbortSignal.any([work.client, deadline.signal])), late.promise]);
  } finally {
    cancel();
  }
}
