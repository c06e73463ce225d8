import type { DecisionHttpRequest, Verdict } from '../../../shared/policy/decision.ts';
import { protocolOf } from '../../../shared/policy/policy-input.ts';
import type { AccessRecord } from '../../../shared/protocol/audit.ts';
import type { Encounter, Judgement } from '../judge/judge.ts';
import { recordedPath, type RecordedQueries } from './recorded-path.ts';

const MAX_TEXT = 1024;
const MAX_NAME = 255;

/** What is written down of a judgement. */
export function buildRecord(
  encounter: Encounter,
  { decisionId, verdict }: Judgement,
  circumstances: {
    readonly http: DecisionHttpRequest | null;
    readonly nowMs: number;
    readonly queries: RecordedQueries;
    readonly traceId?: string | undefined;
  },
): AccessRecord {
  const { caller, target, tls, transport, direction } = encounter;
  const { http, nowMs, queries, traceId } = circumstances;
  return {
    decision_id: decisionId,
    ts: new Date(nowMs).toISOString(),
    ...(traceId === undefined ? {} : { trace_id: traceId }),
    direction,
    caller_spiffe_id: caller.spiffeId,
    target_spiffe_id: target.spiffeId,
    source: formatAddress(caller),
    destination: formatAddress(target),
    ...(target.member === undefined ? {} : { member: formatAddress(target.member) }),
    protocol: protocolOf({ http, tls, transport }),
    ...nameOf(encounter, http),
    ...viaOf(encounter, verdict),
    ...(encounter.isInspected === undefined ? {} : { inspected: encounter.isInspected }),
    method: http?.method ?? null,
    path: http === null ? null : recordedPath(http, queries),
    ...(verdict.userId === undefined ? {} : { user_id: verdict.userId }),
    decision: verdict.isAllowed ? 'allow' : 'deny',
    ...auditedOf(verdict),
    reason: verdict.reason,
    message: verdict.message.slice(0, MAX_TEXT),
    policy_version: verdict.policyVersion,
    latency_us: roundLatency(verdict.latencyUs),
  };
}

/** Microseconds as records have them. */
export function roundLatency(us: number): number {
  return Math.round(us * 10) / 10;
}

/** Within the mesh the target has an identity, and names of the client's choice tell nothing. */
function nameOf(
  { target, tls, direction, via }: Encounter,
  http: DecisionHttpRequest | null,
): Pick<AccessRecord, 'server_name'> | undefined {
  const isOutside = target.spiffeId === null && (direction === 'outbound' || via !== undefined);
  if (!isOutside) return undefined;
  const name = target.domain ?? http?.host ?? tls?.serverName ?? '';
  return name === '' ? undefined : { server_name: name.slice(0, MAX_NAME) };
}

function viaOf({ via }: Encounter, { terms }: Verdict): Pick<AccessRecord, 'via'> | undefined {
  const gateway = via ?? terms?.via;
  return gateway === undefined ? undefined : { via: gateway };
}

function auditedOf({ wouldDeny }: Verdict): Pick<AccessRecord, 'would_deny' | 'rules'> | undefined {
  if (wouldDeny === undefined) return undefined;
  const rules = [...wouldDeny.rules];
  return rules.length === 0 ? { would_deny: true } : { would_deny: true, rules };
}

function formatAddress({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
