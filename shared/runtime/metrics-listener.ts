import { describeError, PicketError } from '../errors/errors.ts';
import type { Running } from './shutdown.ts';

/** Where one of the small HTTP listeners of a process answers. */
export interface ListenerAddress {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Whether another process of the same user may listen there at the same time: one that takes over from this one. */
  readonly isShared?: boolean;
}

export interface HttpListener extends Running {
  readonly port: number;
  /** Takes no more connections; who is being answered still is. */
  retire(): void;
}

/** What is asked about a process from outside. */
export interface Readiness {
  /** Whether it does its work: undefined when it does, otherwise one sentence on what is missing. */
  readonly findMissing: () => string | undefined;
}

const MAX_BODY_BYTES = 1024;
const IDLE_SECONDS = 10;

/** Serves GET /metrics in the text format of Prometheus. Throws `unavailable`, reason `listen_failed`. */
export function startMetricsListener(
  address: ListenerAddress,
  registry: { readonly contentType: string; readonly metrics: () => Promise<string> },
): HttpListener {
  return startListener(address, {
    '/metrics': async () =>
      new Response(await registry.metrics(), { headers: { 'content-type': registry.contentType } }),
  });
}

/**
 * Serves GET /live, which answers 200 as long as the process answers at all, and GET /ready, which answers 503 with the reason while something is
 * missing. Throws `unavailable`, reason `listen_failed`.
 */
export function startReadinessListener(address: ListenerAddress, readiness: Readiness): HttpListener {
  return startListener(address, {
    '/live': () => new Response('live\n'),
    '/ready': () => {
      const missing = readiness.findMissing();
      return missing === undefined
        ? new Response('ready\n')
        : new Response(`not ready: ${missing}\n`, { status: 503 });
    },
  });
}

type Handlers = Readonly<Record<string, () => Response | Promise<Response>>>;

function startListener({ host, port, isShared = false }: ListenerAddress, handlers: Handlers): HttpListener {
  try {
    const server = Bun.serve({
      hostname: host,
      port,
      reusePort: isShared,
      maxRequestBodySize: MAX_BODY_BYTES,
      idleTimeout: IDLE_SECONDS,
      fetch: async (request) => await answer(request, handlers),
      error: (error) => new Response(`${describeError(error)}\n`, { status: 500 }),
    });
    return {
      port: server.port ?? port,
      retire: () => void server.stop(false),
      stop: async () => await server.stop(true),
    };
  } catch (cause) {
    throw new PicketError('unavailable', 'listen_failed', `Cannot listen on ${host}:${port}`, { cause });
  }
}

async function answer(request: Request, handlers: Handlers): Promise<Response> {
  const { pathname } = new URL(request.url);
  const handler = Object.hasOwn(handlers, pathname) ? handlers[pathname] : undefined;
  if (handler === undefined) return new Response('not found\n', { status: 404 });
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return new Response('method not allowed\n', { status: 405, headers: { allow: 'GET, HEAD' } });
  return await handler();
}
