import { DECISION_REASONS, type DecisionReason } from '../../../shared/policy/decision.ts';
import type { TunnelFrame } from '../../../shared/wire/tunnel-frame.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';

type FailureFrame = Extract<TunnelFrame, { readonly type: 'deny' | 'reset' }>;

/** Stands for no decision. */
const NIL_UUID = '00000000-0000-0000-0000-000000000000';
/** Stands for no reason. */
const NO_REASON = 0;

const REASONS: ReadonlyMap<number, DecisionReason> = new Map(
  Object.entries(DECISION_REASONS).map(([name, { code }]) => [code, name as DecisionReason]),
);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The frame that tells a failure. It never throws, because what cuts a connection must not fail: a decision id that is no UUID is left out. */
export function failureFrame(
  type: FailureFrame['type'],
  { reason, decisionId, message }: StreamFailure,
): FailureFrame {
  const reasonCode = reason === undefined ? NO_REASON : DECISION_REASONS[reason].code;
  const isUuid = decisionId !== undefined && UUID.test(decisionId);
  return { type, reasonCode, decisionId: isUuid ? decisionId : NIL_UUID, text: message };
}

/** The mirror of `failureFrame`. A reason that we do not know is left out. */
export function readFailure({ reasonCode, decisionId, text }: FailureFrame): StreamFailure {
  const reason = REASONS.get(reasonCode);
  return {
    message: text,
    ...(reason !== undefined && { reason }),
    ...(decisionId !== NIL_UUID && { decisionId }),
  };
}
