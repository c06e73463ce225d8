import { z } from 'zod';
import { PicketError } from '../../../../shared/errors/errors.ts';
import { agentStatus, syncMessage, type SyncMessage } from '../../../../shared/protocol/sync.ts';
import { counter, sha256Hex } from '../../../../shared/protocol/wire-values.ts';
import type { SpiffeId } from '../../../../shared/spiffe/spiffe-id.ts';
import type { Nodes } from '../../../agents/nodes.ts';
import type { PolicyAdmin } from '../../../policy-admin/policy-admin.ts';
import type { SyncSource } from '../../../sync/sync.ts';
import { emptyAnswer, ownAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { AgentCaller } from '../../caller.ts';
import { routesFor, type Route } from '../../route.ts';

export interface StateRouteOptions {
  readonly sync: Pick<SyncSource, 'stream'>;
  readonly policies: Pick<PolicyAdmin, 'artifact'>;
  readonly nodes: Pick<Nodes, 'recordStatus'>;
  /** A host says how far its clock is ahead of ours. */
  readonly compareClocks: (nodeId: SpiffeId, aheadMs: number) => void;
}

const STATUS_BODY_BYTES = 512 * 1024;
const TAG = 'state';
const defineRoute = routesFor<AgentCaller>();

/** What agents are told, and what they tell of themselves. */
export function stateRoutes(options: StateRouteOptions): readonly Route<AgentCaller>[] {
  return [
    defineRoute({
      method: 'GET',
      path: '/v1/sync',
      action: 'sync.stream',
      tag: TAG,
      summary:
        'Entries, bundles, directory and policy: a snapshot or the missing changes, then changes as they come',
      query: z.object({
        epoch: z.string().max(64).optional(),
        cursor: z.coerce.number().pipe(counter).optional(),
        instance: z.uuid().optional(),
      }),
      answer: ownAnswer({
        mediaType: 'application/x-ndjson',
        description: 'One message a line',
        schema: syncMessage,
      }),
      timeoutMs: 0,
      handle: ({ query }, { caller, signal }) => {
        const { epoch, cursor, instance } = query;
        const resumeFrom =
          epoch === undefined || cursor === undefined ? {} : { resumeFrom: { epoch, sequence: cursor } };
        return streamLines(
          options.sync.stream({
            agentId: caller.actor,
            signal,
            ...resumeFrom,
            ...(instance === undefined ? {} : { instance }),
          }),
        );
      },
    }),
    defineRoute({
      method: 'GET',
      path: '/v1/policy/artifacts/:digest',
      action: 'policy.artifact.read',
      tag: TAG,
      summary: 'The compiled policy of a digest',
      params: z.object({ digest: sha256Hex }),
      answer: ownAnswer({
        mediaType: 'application/octet-stream',
        description: 'A gzip-compressed OPA bundle',
      }),
      handle: async ({ params }) => {
        const artifact = await options.policies.artifact(params.digest);
        if (artifact === undefined)
          throw new PicketError('not_found', 'policy_artifact_unknown', 'There is no policy of that digest');
        return new Response(Buffer.from(artifact), {
          headers: { 'content-type': 'application/octet-stream' },
        });
      },
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/agent/status',
      action: 'agent.status',
      tag: TAG,
      summary: 'What the agent says of itself',
      body: jsonBody(agentStatus, STATUS_BODY_BYTES),
      answer: emptyAnswer('Kept'),
      handle: async ({ body }, { caller }) => {
        await options.nodes.recordStatus(caller.actor, body);
        if (body.clockSkewMs !== undefined) options.compareClocks(caller.actor, body.clockSkewMs);
      },
    }),
  ];
}

/** One message a line, read only as fast as the client takes them. A failure ends the stream; the agent dials again. */
function streamLines(messages: AsyncGenerator<SyncMessage, void, void>): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await messages.next();
      if (next.done === true) return controller.close();
      controller.enqueue(encoder.encode(`${JSON.stringify(next.value)}\n`));
    },
    async cancel() {
      await messages.return();
    },
  });
  return new Response(body, { headers: { 'content-type': 'application/x-ndjson' } });
}
