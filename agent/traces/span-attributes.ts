import { SpanKind, type Attributes } from '@opentelemetry/api';
import type { Encounter, Judgement } from '../proxy/judge/judge.ts';

const CALLER = 'picket.caller_spiffe_id';

/** Who asks whom, and on which connection, as spans of requests and of connections have it. */
export function attributesOfParties({ caller, target, via }: Encounter, connectionId: string): Attributes {
  return {
    'client.address': caller.address,
    'server.address': target.domain ?? target.address,
    'server.port': target.port,
    'picket.connection_id': connectionId,
    ...(caller.spiffeId === null ? {} : { [CALLER]: caller.spiffeId }),
    ...(target.spiffeId === null ? {} : { 'picket.target_spiffe_id': target.spiffeId }),
    ...(via === undefined ? {} : { 'picket.via': via }),
  };
}

/** On whose account a span goes: the caller's, or that of all who proved nothing. */
export function callerOf({ attributes }: { readonly attributes: Attributes }): string {
  const caller = attributes[CALLER];
  return typeof caller === 'string' ? caller : 'strangers';
}

/** What was decided, as the record has it. */
export function attributesOfJudgement({ decisionId, verdict }: Judgement): Attributes {
  const { isAllowed, reason, terms } = verdict;
  return {
    'picket.decision_id': decisionId,
    'picket.decision': isAllowed ? 'allow' : 'deny',
    'picket.reason': reason,
    ...(isAllowed ? {} : { 'error.type': reason }),
    ...(terms?.via === undefined ? {} : { 'picket.via': terms.via }),
  };
}

/** Whether it was sent from here, or came to here. */
export function kindOf({ direction }: Pick<Encounter, 'direction'>): SpanKind.CLIENT | SpanKind.SERVER {
  return direction === 'outbound' ? SpanKind.CLIENT : SpanKind.SERVER;
}
