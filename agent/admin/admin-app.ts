import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { ERROR_CODES, PicketError, toPicketError } from '../../shared/errors/errors.ts';
import { problemOf } from '../../shared/protocol/problem.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Upgraded } from '../handover/upgrade.ts';
import type { Capture } from '../capture/capture.ts';
import type { RecentDenials } from '../proxy/records/recent-denials.ts';
import { MAX_LAST } from './admin-answers.ts';
import { buildStatus, type AgentState } from './status.ts';

/** What the admin socket tells. */
export interface AdminSources {
  readonly state: AgentState;
  readonly denials: Pick<RecentDenials, 'list'>;
  readonly capture: Pick<Capture, 'show'>;
  /** Replaces the agent by a process of the binary that stands now where it came from. Absent: it cannot be yet. */
  readonly upgrade?: () => Promise<Upgraded>;
  /** The user that the agent runs as: he may see what root may. */
  readonly agentUid: number;
  readonly log: Log;
}

/** Who asks, as the kernel says. */
export type UidOf = (environment: unknown) => number | undefined;

const DEFAULT_LAST = 20;

const whyQuery = z.object({
  last: z
    .string()
    .regex(/^\d{1,4}$/)
    .transform(Number)
    .pipe(z.number().min(1).max(MAX_LAST))
    .default(DEFAULT_LAST),
});

/** The routes of the admin socket. All of them only tell, but for `/upgrade`. */
export function buildAdminApp(sources: AdminSources, uidOf: UidOf): Hono {
  const app = new Hono();
  const callerOf = (context: Context): { readonly uid: number; readonly isRoot: boolean } => {
    const uid = uidOf(context.env);
    if (uid === undefined) throw forbidden('The kernel does not say who asks');
    return { uid, isRoot: uid === 0 || uid === sources.agentUid };
  };
  const requireRoot = (context: Context): void => {
    if (!callerOf(context).isRoot) throw forbidden('Only root may ask for that');
  };
  app.get('/status', async (context) => {
    requireRoot(context);
    await sources.state.refresh();
    return context.json(buildStatus(sources.state));
  });
  app.get('/why', async (context) => {
    const { uid, isRoot } = callerOf(context);
    const limit = parseLast(context.req.query('last'));
    await sources.state.refresh();
    const denials = sources.denials.list(isRoot ? { limit } : { uid, limit });
    return context.json({ denials });
  });
  app.get('/capture', async (context) => {
    requireRoot(context);
    return context.json({ rules: await sources.capture.show() });
  });
  app.post('/upgrade', async (context) => {
    requireRoot(context);
    if (sources.upgrade === undefined)
      throw new PicketError('failed_precondition', 'agent_starting', 'The agent is still starting');
    return context.json(await sources.upgrade());
  });
  app.notFound(() => answerError(new PicketError('not_found', 'route_unknown', 'There is no such route')));
  app.onError((error) => {
    const picketError = toPicketError(error);
    if (picketError.code === 'internal') sources.log.error('admin_failed', { error });
    return answerError(picketError);
  });
  return app;
}

function parseLast(last: string | undefined): number {
  const parsed = whyQuery.safeParse({ last });
  if (parsed.success) return parsed.data.last;
  throw new PicketError('invalid_argument', 'last_invalid', `last must be a number from 1 to ${MAX_LAST}`);
}

function answerError(error: PicketError): Response {
  return new Response(JSON.stringify(problemOf(error)), {
    status: ERROR_CODES[error.code].httpStatus,
    headers: { 'content-type': 'application/problem+json' },
  });
}

function forbidden(message: string): PicketError {
  return new PicketError('permission_denied', 'not_root', message);
}
