import { z } from 'zod';
import {
  enforcement,
  enforcementPage,
  enforcementReport,
  enforcementReportQuery,
  enforcementScopeText,
  newEnforcement,
  type EnforcementReport,
} from '../../../../shared/protocol/enforcement.ts';
import { paging } from '../../../../shared/protocol/operator.ts';
import type { Enforcement, Enforcements } from '../../../enforcement/enforcement.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'enforcement';
const PATH = '/enforcement/:scope';
const params = z.object({ scope: enforcementScopeText });

export interface EnforcementRouteOptions {
  readonly enforcements: Enforcements;
  /** What enforcing would break; of the last day where `sinceMs` is undefined. */
  readonly report: (scope: string, sinceMs: number | undefined) => Promise<EnforcementReport>;
}

/** Audit mode: services whose denials are recorded and not carried out. */
export function enforcementRoutes(options: EnforcementRouteOptions): readonly Route<OperatorCaller>[] {
  const { enforcements, report } = options;
  const show = async ({ scope, mode, setBy, setAt }: Enforcement): Promise<z.input<typeof enforcement>> => ({
    scope,
    mode,
    setBy,
    setAt: setAt.toISOString(),
    services: await enforcements.countServices(scope),
  });
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/enforcement',
      action: 'enforcement.list',
      tag: TAG,
      summary: 'Scopes with a mode of their own; what none of them names is enforced',
      query: paging,
      answer: jsonAnswer(enforcementPage),
      handle: async ({ query }) => {
        const { items, nextCursor } = await enforcements.list(withoutUndefined(query));
        return { items: await Promise.all(items.map(show)), next: nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: `${PATH}/report`,
      action: 'enforcement.read',
      tag: TAG,
      summary:
        'What enforcing would break: what passed in audit mode since then (the last day by default), and how much came in plaintext. Scope percent-encoded',
      params,
      query: enforcementReportQuery,
      answer: jsonAnswer(enforcementReport),
      handle: async ({ params: { scope }, query: { since } }) =>
        await report(scope, since === undefined ? undefined : Date.parse(since)),
    }),
    defineOperatorRoute({
      method: 'PUT',
      path: PATH,
      action: 'enforcement.set',
      tag: TAG,
      summary:
        'Set the mode of a service, or with /* behind an ID of all below it: audit records what would be denied and blocks nothing. Scope percent-encoded',
      params,
      body: jsonBody(newEnforcement),
      answer: jsonAnswer(enforcement),
      logged: ({ body }) => ({ ...body }),
      handle: async ({ params: { scope }, body: { mode } }, { caller }) =>
        await show(await enforcements.set({ scope: enforcements.scopeOf(scope), mode, setBy: caller.actor })),
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: PATH,
      action: 'enforcement.clear',
      tag: TAG,
      summary: 'Take the mode of a scope away: the nearest scope above counts, or it is enforced',
      params,
      answer: emptyAnswer('Cleared'),
      handle: async ({ params: { scope } }) => await enforcements.clear(enforcements.scopeOf(scope)),
    }),
  ];
}
