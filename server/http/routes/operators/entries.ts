import { z } from 'zod';
import { PicketError } from '../../../../shared/errors/errors.ts';
import { entryPage, entryUpdate, paging } from '../../../../shared/protocol/operator.ts';
import { entry, newEntry, type NewEntry } from '../../../../shared/protocol/registration.ts';
import { selector, spiffeId } from '../../../../shared/protocol/wire-values.ts';
import type { Registration } from '../../../registration/registration.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { withoutUndefined } from './without-undefined.ts';
import { defineOperatorRoute } from './define.ts';

const TAG = 'entries';
const params = z.object({ entryId: z.string().max(64) });

/** Registration entries: which process on which host has which identity. */
export function entryRoutes(registration: Registration): readonly Route<OperatorCaller>[] {
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/entries',
      action: 'entry.list',
      tag: TAG,
      summary: 'List registration entries',
      query: paging.extend({
        spiffe_id: spiffeId.optional(),
        parent_id: spiffeId.optional(),
        selector: selector.optional(),
      }),
      answer: jsonAnswer(entryPage),
      handle: async ({ query }) => {
        const { spiffe_id, parent_id, ...page } = query;
        const filter = withoutUndefined({ ...page, spiffeId: spiffe_id, parentId: parent_id });
        const { entries, nextCursor } = await registration.list(filter);
        return { items: [...entries], next: nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'POST',
      path: '/entries',
      action: 'entry.create',
      tag: TAG,
      summary: 'Register a workload',
      body: jsonBody(newEntry),
      answer: jsonAnswer(entry, { status: 201 }),
      subject: ({ body }) => body.spiffeId,
      logged: ({ body }) => ({ ...body }),
      handle: async ({ body }) => {
        requireNoFederation(body);
        return await registration.create(body);
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: '/entries/:entryId',
      action: 'entry.read',
      tag: TAG,
      summary: 'One registration entry',
      params,
      answer: jsonAnswer(entry),
      handle: async ({ params: { entryId } }) => {
        const found = await registration.find(entryId);
        if (found !== undefined) return found;
        throw new PicketError('not_found', 'entry_unknown', `There is no registration entry "${entryId}"`);
      },
    }),
    defineOperatorRoute({
      method: 'PUT',
      path: '/entries/:entryId',
      action: 'entry.update',
      tag: TAG,
      summary: 'Replace a registration entry, if it still has the revision that it was made from',
      params,
      body: jsonBody(entryUpdate),
      answer: jsonAnswer(entry),
      logged: ({ body }) => ({ ...body }),
      handle: async ({ params: { entryId }, body: { revision, ...wish } }) => {
        requireNoFederation(wish);
        return await registration.update(entryId, { wish, revision });
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: '/entries/:entryId',
      action: 'entry.delete',
      tag: TAG,
      summary: 'Withdraw an identity from its host',
      params,
      answer: emptyAnswer('Deleted'),
      handle: async ({ params: { entryId } }) => void (await registration.delete(entryId)),
    }),
  ];
}

/** No foreign bundle is fetched yet: an entry that names one would promise what nobody does. Throws `unimplemented`, reason `federation_not_built`. */
function requireNoFederation({ federatesWith }: NewEntry): void {
  if (federatesWith.length === 0) return;
  throw new PicketError(
    'unimplemented',
    'federation_not_built',
    `An entry cannot federate with ${federatesWith.join(', ')}: federation is not built yet`,
  );
}
