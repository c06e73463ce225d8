import type { getRequestListener } from '@hono/node-server';

/** What answers the requests of a listener: the `fetch` of a Hono app. */
export type HttpFetch = Parameters<typeof getRequestListener>[0];
