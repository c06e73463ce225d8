import { z } from 'zod';
import { paging } from '../../../../shared/protocol/operator.ts';
import {
  newQuarantine,
  quarantine,
  quarantineKind,
  quarantinePage,
} from '../../../../shared/protocol/quarantine.ts';
import { spiffeId } from '../../../../shared/protocol/wire-values.ts';
import type { Quarantine, Quarantines } from '../../../quarantine/quarantines.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'quarantines';
const PATH = '/quarantines/:kind/:subject';
const params = z.object({ kind: quarantineKind, subject: spiffeId });

/** Who neither calls nor is called, whatever the policy says. */
export function quarantineRoutes(quarantines: Quarantines): readonly Route<OperatorCaller>[] {
  const show = async (found: Quarantine): Promise<z.input<typeof quarantine>> => ({
    kind: found.kind,
    subject: found.subject,
    reason: found.reason,
    until: found.until?.toISOString() ?? null,
    createdBy: found.createdBy,
    createdAt: found.createdAt.toISOString(),
    coveredEntries: await quarantines.countCovered(found),
  });
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/quarantines',
      action: 'quarantine.list',
      tag: TAG,
      summary: 'Quarantines that are in force',
      query: paging,
      answer: jsonAnswer(quarantinePage),
      handle: async ({ query }) => {
        const page = await quarantines.list(withoutUndefined(query));
        return { items: await Promise.all(page.quarantines.map(show)), next: page.nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: PATH,
      action: 'quarantine.read',
      tag: TAG,
      summary: 'One quarantine',
      params,
      answer: jsonAnswer(quarantine),
      handle: async ({ params: key }) => await show(await quarantines.require(key)),
    }),
    defineOperatorRoute({
      method: 'PUT',
      path: PATH,
      action: 'quarantine.add',
      tag: TAG,
      summary:
        'Put a workload, a node (the SPIFFE ID of its agent) or a segment (an ID with all below it) in quarantine: it neither calls nor is called. Subject percent-encoded',
      params,
      body: jsonBody(newQuarantine),
      answer: jsonAnswer(quarantine),
      logged: ({ body }) => ({ ...body }),
      handle: async ({ params: key, body: { reason, ttlSeconds } }, { caller }) => {
        const until = ttlSeconds === undefined ? {} : { ttlSeconds };
        return await show(await quarantines.add({ ...key, reason, ...until, createdBy: caller.actor }));
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: PATH,
      action: 'quarantine.lift',
      tag: TAG,
      summary: 'Lift a quarantine: policy alone decides again',
      params,
      answer: emptyAnswer('Lifted'),
      handle: async ({ params: key }) => void (await quarantines.lift(key)),
    }),
  ];
}
