import { accessPage, accessQuery, operatorActionPage, paging } from '../../../../shared/protocol/operator.ts';
import type { AccessLog } from '../../../audit/access-log.ts';
import type { OperatorLog } from '../../../audit/operator-log.ts';
import { jsonAnswer } from '../../answer.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'audit';

/** The record: what the mesh decided, and what operators did. */
export function auditRoutes(logs: {
  readonly access: AccessLog;
  readonly operators: OperatorLog;
}): readonly Route<OperatorCaller>[] {
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/audit/access',
      action: 'audit.read',
      tag: TAG,
      summary: 'Decisions of the mesh, newest first',
      query: accessQuery,
      answer: jsonAnswer(accessPage),
      handle: async ({ query }) => {
        const { from, to, decision_id, would_deny, ...rest } = query;
        const filter = withoutUndefined({
          ...rest,
          fromMs: toMs(from),
          toMs: toMs(to),
          decisionId: decision_id,
          wouldDeny: would_deny === undefined ? undefined : true,
        });
        const { records, nextCursor } = await logs.access.query(filter);
        const items = records.map(({ record, nodeId, sequence }) => ({
          ...record,
          node_id: nodeId,
          sequence,
        }));
        return { items, next: nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: '/audit/operators',
      action: 'operator-log.read',
      tag: TAG,
      summary: 'What operators did or were refused, newest first',
      query: paging,
      answer: jsonAnswer(operatorActionPage),
      handle: async ({ query }) => {
        const { actions, nextCursor } = await logs.operators.query(withoutUndefined(query));
        const items = actions.map(({ ts, detail, ...action }) => ({
          ...action,
          ts: ts.toISOString(),
          detail: { ...detail },
        }));
        return { items, next: nextCursor ?? null };
      },
    }),
  ];
}

function toMs(time: string | undefined): number | undefined {
  return time === undefined ? undefined : Date.parse(time);
}
