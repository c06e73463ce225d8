import { DECISION_REASONS, type DecisionReason } from '../../../shared/policy/decision.ts';
import { pathOf, type SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { EMPTY_TABLE, encodeFields, type EncodedField } from '../../../shared/wire/hpack-encoder.ts';
import {
  formatHboneAuthority,
  type HboneAddress,
  type HboneAnswer,
} from '../../../shared/wire/hbone-head.ts';
import { CLIENT_PREFACE, encodeFrame, FLAG, FRAME } from '../../../shared/wire/http2-frame.ts';
import { encodeSettings, SETTING } from '../../../shared/wire/http2-settings.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { traceOfConnection } from '../../traces/connection-trace.ts';
import { HBONE_LIMITS } from './limits.ts';
import type { OpeningDenial } from '../mesh/server-opening.ts';

const WINDOW = [SETTING.initialWindowSize, HBONE_LIMITS.streamWindowBytes] as const;
const HEAD = [SETTING.maxHeaderListSize, HBONE_LIMITS.headBytes] as const;

/** What a server says first. */
export const SERVER_GREETING: Uint8Array = encodeSettings(
  new Map([[SETTING.maxConcurrentStreams, HBONE_LIMITS.openStreams], WINDOW, HEAD]),
);

/** What a client says first. */
export const CLIENT_GREETING: Uint8Array = Buffer.concat([
  CLIENT_PREFACE,
  encodeSettings(new Map([[SETTING.enablePush, 0], WINDOW, HEAD])),
]);

/** A CONNECT as it is asked for. */
export interface HboneRequest {
  readonly caller: SpiffeId;
  readonly destination: HboneAddress;
  readonly source: HboneAddress;
  /** A UUID: its digits are the trace's. */
  readonly connectionId: string;
}

const REASON = 'picket-reason';
const DECISION = 'picket-decision-id';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const ISTIO_PATH = /^\/ns\/([^/]+)\/sa\/([^/]+)$/;

/** What of the decision's reasons another status than 401 stands for: the peer did wrong, or we cannot at the moment. */
const STATUSES: Partial<Record<DecisionReason, number>> = {
  protocol_error: 400,
  listener_not_registered: 503,
  listener_unidentified: 503,
  application_unreachable: 503,
  target_unknown: 503,
  target_unreachable: 503,
  target_untrusted: 503,
  overloaded: 503,
  audit_unavailable: 503,
};
const UNAUTHORIZED = 401;

/** HEADERS with a CONNECT. The trace begins here: whoever follows it finds our record by its digits. */
export function encodeConnect(streamId: number, request: HboneRequest): Uint8Array {
  const { caller, destination, source, connectionId } = request;
  const { traceId, callingSpanId } = traceOfConnection(connectionId);
  return encodeHead(streamId, false, [
    { name: ':method', value: 'CONNECT' },
    { name: ':authority', value: formatHboneAuthority(destination) },
    { name: 'baggage', value: baggageOf(caller) },
    { name: 'forwarded', value: `for="${formatHboneAuthority(source)}"` },
    { name: 'traceparent', value: `00-${traceId}-${callingSpanId}-00` },
  ]);
}

/** HEADERS with the answer to a CONNECT that was let in. */
export function encodeAcceptance(streamId: number, target: SpiffeId): Uint8Array {
  return encodeHead(streamId, false, [
    { name: ':status', value: '200' },
    { name: 'baggage', value: baggageOf(target) },
  ]);
}

/** HEADERS with the answer to one that was not, which ends the stream. `status` goes before the one of the reason. */
export function encodeDenial(
  streamId: number,
  { reason, decisionId }: OpeningDenial,
  status = STATUSES[reason] ?? UNAUTHORIZED,
): Uint8Array {
  return encodeHead(streamId, true, [
    { name: ':status', value: String(status) },
    { name: REASON, value: reason },
    ...(decisionId === '' ? [] : [{ name: DECISION, value: decisionId }]),
  ]);
}

/** What an answer other than 200 says, in our words. The reason counts only if it is one that we know. */
export function readDenial({ status, headers }: HboneAnswer): StreamFailure {
  const named = headers[REASON];
  const reason = isDenialReason(named) ? named : reasonOf(status);
  const decisionId = headers[DECISION] ?? '';
  const message = `The other host answered CONNECT with ${status}`;
  return { reason, message, ...(UUID.test(decisionId) && { decisionId }) };
}

/**
 * What telemetry may say of a workload, by its SPIFFE ID alone: the `baggage` of HBONE. It is the word of whoever sends it, and nothing is ever allowed by it.
 */
function baggageOf(id: SpiffeId): string {
  const path = pathOf(id);
  const [, namespace, account] = ISTIO_PATH.exec(path) ?? [];
  if (namespace !== undefined && account !== undefined)
    return `k8s.namespace.name=${namespace},service.name=${account}`;
  return `service.name=${path.slice(path.lastIndexOf('/') + 1)}`;
}

function isDenialReason(name: string | undefined): name is DecisionReason {
  return name !== undefined && name !== 'policy_allow' && Object.hasOwn(DECISION_REASONS, name);
}

function reasonOf(status: number): DecisionReason {
  if (status === UNAUTHORIZED || status === 403) return 'policy_deny';
  return status === 400 || status === 405 ? 'protocol_error' : 'target_unreachable';
}

/** Every block empties the reader's table first: it then stands for itself, whatever table the peer wants. */
function encodeHead(streamId: number, isEnd: boolean, fields: readonly EncodedField[]): Uint8Array {
  const payload = Buffer.concat([Uint8Array.of(EMPTY_TABLE), encodeFields(fields)]);
  const flags = FLAG.endHeaders | (isEnd ? FLAG.endStream : 0);
  return encodeFrame(FRAME.headers, streamId, { flags, payload });
}
