import { Hono } from 'hono';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { toDatabaseError } from '../datastore/database-error.ts';
import type { HttpEnvironment } from './mount-routes.ts';
import { problemResponse } from './problem-response.ts';

/** An app that answers every failure as a problem document and sets the headers that every answer carries. */
export function buildApp(log: Log): Hono<HttpEnvironment> {
  const app = new Hono<HttpEnvironment>();
  app.use(async (context, next) => {
    requireOwnSite(context.req.raw);
    await next();
    context.header('x-content-type-options', 'nosniff');
    if (!context.res.headers.has('cache-control')) context.header('cache-control', 'no-store');
  });
  app.notFound(() =>
    problemResponse(new PicketError('not_found', 'path_unknown', 'There is nothing at this path')),
  );
  app.onError((error, context) => {
    const picketError = toPicketError(toDatabaseError(error));
    const { method, path } = context.req;
    if (picketError.code === 'internal') log.error('request_failed', { method, path, error });
    else if (picketError.reason === 'database_unavailable')
      log.warn('request_failed', { method, path, error });
    return problemResponse(picketError);
  });
  return app;
}

/**
 * A browser sends its client certificate along with requests that another site makes it send. Browsers name that site; programs send
 * neither header.
 */
function requireOwnSite({ headers, url }: Request): void {
  const site = headers.get('sec-fetch-site');
  const origin = headers.get('origin');
  const isForeignSite = site !== null && site !== 'same-origin' && site !== 'none';
  const isForeignOrigin = origin !== null && hostOf(origin) !== hostOf(url);
  if (isForeignSite || isForeignOrigin)
    throw new PicketError('permission_denied', 'cross_site', 'Requests from other web sites are refused');
}

function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).host : undefined;
}
