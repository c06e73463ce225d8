import {
  auditAnswer,
  auditBatch,
  auditFramesQuery,
  MAX_AUDIT_FRAMES_BYTES,
} from '../../../../shared/protocol/audit.ts';
import { parseAuditFrames } from '../../../audit/audit-frames.ts';
import type { RecordIntake } from '../../../audit/record-intake.ts';
import { jsonAnswer } from '../../answer.ts';
import { jsonBody } from '../../body.ts';
import type { AgentCaller } from '../../caller.ts';
import { routesFor, type Route } from '../../route.ts';

export interface AuditRouteOptions {
  readonly intake: Pick<RecordIntake, 'requireRoom' | 'store'>;
}

/** An agent of before ships about a megabyte of records, whose quotes are escaped once more. */
const AUDIT_BODY_BYTES = 4 * 1024 * 1024;
const TAG = 'state';
const defineRoute = routesFor<AgentCaller>();

/** Agents ship what they have decided. */
export function auditRoutes(options: AuditRouteOptions): readonly Route<AgentCaller>[] {
  const admit = ({ actor }: AgentCaller): void => options.intake.requireRoom(actor);
  return [
    defineRoute({
      method: 'POST',
      path: '/v1/audit/frames',
      action: 'audit.store',
      tag: TAG,
      summary: 'Store access records, each once however often it is sent',
      admit,
      query: auditFramesQuery,
      body: {
        maxBytes: MAX_AUDIT_FRAMES_BYTES,
        media: { 'application/octet-stream': undefined },
        parse: parseAuditFrames,
      },
      answer: jsonAnswer(auditAnswer),
      handle: async ({ query, body: records }, { caller, signal }) => {
        const { epoch, gap_after: after, gap_hash: hash } = query;
        const gap = after === undefined || hash === undefined ? {} : { gap: { after, hash } };
        return await options.intake.store(caller.actor, { epoch, records, ...gap }, signal);
      },
    }),
    defineRoute({
      method: 'POST',
      path: '/v1/audit/batches',
      action: 'audit.store',
      tag: TAG,
      summary: 'The same, as JSON, for agents of before',
      admit,
      body: jsonBody(auditBatch, AUDIT_BODY_BYTES),
      answer: jsonAnswer(auditAnswer),
      handle: async ({ body }, { caller, signal }) => await options.intake.store(caller.actor, body, signal),
    }),
  ];
}
