import { z } from 'zod';
import { paging } from '../../../../shared/protocol/operator.ts';
import {
  newPlace,
  newService,
  place,
  service,
  serviceName,
  servicePage,
} from '../../../../shared/protocol/service.ts';
import { spiffeId } from '../../../../shared/protocol/wire-values.ts';
import type { NodePlaces } from '../../../services/node-places.ts';
import type { Service, Services } from '../../../services/services.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'services';
const PATH = '/services/:name';
const PLACE_PATH = '/nodes/:nodeId/place';
const params = z.object({ name: serviceName });
const placeParams = z.object({ nodeId: spiffeId });

/** Services in several places, and where the hosts are. */
export function serviceRoutes(options: {
  readonly services: Services;
  readonly places: NodePlaces;
}): readonly Route<OperatorCaller>[] {
  return [...servicesOf(options.services), ...placesOf(options.places)];
}

function servicesOf(services: Services): readonly Route<OperatorCaller>[] {
  const showAll = async (found: readonly Service[]): Promise<z.input<typeof service>[]> => {
    const members = await services.countMembers(found.map(({ name }) => name));
    return found.map((each) => describe(each, members.get(each.name) ?? 0));
  };
  const showOne = async (found: Service): Promise<z.input<typeof service>> => {
    const members = await services.countMembers([found.name]);
    return describe(found, members.get(found.name) ?? 0);
  };
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/services',
      action: 'service.list',
      tag: TAG,
      summary: 'Addresses that stand for every host on which a workload is registered',
      query: paging,
      answer: jsonAnswer(servicePage),
      handle: async ({ query }) => {
        const { items, nextCursor } = await services.list(withoutUndefined(query));
        return { items: await showAll(items), next: nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: PATH,
      action: 'service.read',
      tag: TAG,
      summary: 'One service',
      params,
      answer: jsonAnswer(service),
      handle: async ({ params: { name } }) => await showOne(await services.find(name)),
    }),
    defineOperatorRoute({
      method: 'PUT',
      path: PATH,
      action: 'service.set',
      tag: TAG,
      summary: 'Declare a service, in the place of the one of that name: whom its addresses lead to',
      params,
      body: jsonBody(newService),
      answer: jsonAnswer(service),
      logged: ({ body }) => ({ ...body }),
      handle: async ({ params: { name }, body }, { caller }) =>
        await showOne(await services.set(name, { ...body, createdBy: caller.actor })),
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: PATH,
      action: 'service.delete',
      tag: TAG,
      summary: 'Take a service away; its addresses are then outside of the mesh',
      params,
      answer: emptyAnswer('Deleted'),
      handle: async ({ params: { name } }) => await services.delete(name),
    }),
  ];
}

function describe(found: Service, members: number): z.input<typeof service> {
  const { name, spiffeId: id, port, addresses, createdBy, createdAt } = found;
  return {
    name,
    spiffeId: id,
    port,
    addresses: [...addresses],
    createdBy,
    createdAt: createdAt.toISOString(),
    members,
  };
}

function placesOf(places: NodePlaces): readonly Route<OperatorCaller>[] {
  return [
    defineOperatorRoute({
      method: 'PUT',
      path: PLACE_PATH,
      action: 'node.place',
      tag: TAG,
      summary: 'Declare where a host is: a region, or region/zone. The host need not have attested yet',
      params: placeParams,
      body: jsonBody(newPlace),
      answer: jsonAnswer(place),
      logged: ({ body }) => ({ ...body }),
      handle: async ({ params: { nodeId }, body: { locality } }) => {
        await places.set(nodeId, locality);
        return { nodeId, locality };
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: PLACE_PATH,
      action: 'node.unplace',
      tag: TAG,
      summary: 'Forget where a host is',
      params: placeParams,
      answer: emptyAnswer('Forgotten'),
      handle: async ({ params: { nodeId } }) => await places.clear(nodeId),
    }),
  ];
}
