import { z } from 'zod';
import { PicketError } from '../../../../shared/errors/errors.ts';
import { node, nodePage, paging } from '../../../../shared/protocol/operator.ts';
import { ipAddress, spiffeId } from '../../../../shared/protocol/wire-values.ts';
import type { SpiffeId } from '../../../../shared/spiffe/spiffe-id.ts';
import type { NodeAddressClaim, NodeAddresses } from '../../../agents/node-addresses.ts';
import type { Node } from '../../../agents/node.ts';
import type { Nodes } from '../../../agents/nodes.ts';
import type { NodePlaces } from '../../../services/node-places.ts';
import { emptyAnswer, jsonAnswer } from '../../answer.ts';
import type { OperatorCaller } from '../../caller.ts';
import type { Route } from '../../route.ts';
import { defineOperatorRoute } from './define.ts';
import { withoutUndefined } from './without-undefined.ts';

const TAG = 'nodes';
const params = z.object({ nodeId: spiffeId });
const addressParams = params.extend({ address: ipAddress });

/** Hosts that have attested. */
export function nodeRoutes(options: {
  readonly nodes: Nodes;
  readonly addresses: NodeAddresses;
  readonly places: NodePlaces;
}): readonly Route<OperatorCaller>[] {
  const { nodes, addresses, places } = options;
  const show = async (found: Node): Promise<z.input<typeof node>> =>
    describeNode(found, {
      claims: await addresses.list(found.nodeId),
      locality: await places.find(found.nodeId),
    });
  const requireNode = async (nodeId: SpiffeId): Promise<Node> => {
    const found = await nodes.find(nodeId);
    if (found !== undefined) return found;
    throw new PicketError('not_found', 'node_unknown', `There is no node "${nodeId}"`);
  };
  return [...hostRoutes({ nodes, show, requireNode }), ...addressRoutes({ addresses, show, requireNode })];
}

interface Answers {
  readonly show: (found: Node) => Promise<z.input<typeof node>>;
  readonly requireNode: (nodeId: SpiffeId) => Promise<Node>;
}

function hostRoutes(options: Answers & { readonly nodes: Nodes }): readonly Route<OperatorCaller>[] {
  const { nodes, show, requireNode } = options;
  return [
    defineOperatorRoute({
      method: 'GET',
      path: '/nodes',
      action: 'node.list',
      tag: TAG,
      summary: 'Hosts that have attested',
      query: paging,
      answer: jsonAnswer(nodePage),
      handle: async ({ query }) => {
        const page = await nodes.list(withoutUndefined(query));
        return { items: await Promise.all(page.nodes.map(show)), next: page.nextCursor ?? null };
      },
    }),
    defineOperatorRoute({
      method: 'GET',
      path: '/nodes/:nodeId',
      action: 'node.read',
      tag: TAG,
      summary: 'One host (its SPIFFE ID percent-encoded)',
      params,
      answer: jsonAnswer(node),
      handle: async ({ params: { nodeId } }) => await show(await requireNode(nodeId)),
    }),
    defineOperatorRoute({
      method: 'POST',
      path: '/nodes/:nodeId/ban',
      action: 'node.ban',
      tag: TAG,
      summary: 'Shut a host out: it gets nothing more, and its listeners leave the directory',
      params,
      answer: jsonAnswer(node),
      handle: async ({ params: { nodeId } }) => await show(await nodes.setBanned(nodeId, true)),
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: '/nodes/:nodeId',
      action: 'node.evict',
      tag: TAG,
      summary: 'Forget a host, its ban too: it must attest anew, and may',
      params,
      answer: emptyAnswer('Evicted'),
      handle: async ({ params: { nodeId } }) => void (await nodes.evict(nodeId)),
    }),
  ];
}

function addressRoutes(
  options: Answers & { readonly addresses: NodeAddresses },
): readonly Route<OperatorCaller>[] {
  const { addresses, show, requireNode } = options;
  return [
    defineOperatorRoute({
      method: 'PUT',
      path: '/nodes/:nodeId/addresses/:address',
      action: 'node-address.confirm',
      tag: TAG,
      summary: 'Declare an address to be the host’s',
      params: addressParams,
      answer: jsonAnswer(node),
      handle: async ({ params: { nodeId, address } }) => {
        await addresses.confirm({ nodeId, address }, 'operator');
        return await show(await requireNode(nodeId));
      },
    }),
    defineOperatorRoute({
      method: 'DELETE',
      path: '/nodes/:nodeId/addresses/:address',
      action: 'node-address.withdraw',
      tag: TAG,
      summary: 'Take an address from the host',
      params: addressParams,
      answer: emptyAnswer('Withdrawn'),
      handle: async ({ params: { nodeId, address } }) => {
        if (await addresses.withdraw({ nodeId, address })) return;
        throw new PicketError('not_found', 'address_unknown', `The host has no address ${address}`);
      },
    }),
  ];
}

function describeNode(
  found: Node,
  {
    claims,
    locality,
  }: { readonly claims: readonly NodeAddressClaim[]; readonly locality: string | undefined },
): z.input<typeof node> {
  return {
    nodeId: found.nodeId,
    attestationType: found.attestationType,
    certSerial: found.certSerial,
    expiry: found.expiry.toISOString(),
    selectors: [...found.selectors],
    canReattest: found.canReattest,
    isBanned: found.isBanned,
    attestedAt: found.attestedAt.toISOString(),
    lastSeenAt: found.lastSeenAt.toISOString(),
    agentVersion: found.agentVersion,
    status: found.status,
    ...(locality === undefined ? {} : { locality }),
    addresses: claims.map(({ network, address, state, proof }) => ({ network, address, state, proof })),
  };
}
