import {
  DECISION_REASONS,
  type DecisionCaller,
  type DecisionHttpRequest,
  type DecisionReason,
  type DecisionRequest,
  type DecisionTarget,
  type DecisionTls,
  type Verdict,
} from '../../shared/policy/decision.ts';
import { protocolOf } from '../../shared/policy/policy-input.ts';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { AccessRecorder } from '../audit/access-recorder.ts';
import type { Authorizer } from '../policy/authorizer.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import type { ProxyObserver } from './proxy-observer.ts';
import type { RecentDenials } from './recent-denials.ts';

/** Who asks whom: the same for every decision of a connection. */
export interface Encounter {
  readonly direction: 'inbound' | 'outbound';
  readonly caller: DecisionCaller;
  readonly target: DecisionTarget;
  /** What the client says before it encrypts; absent where it is no TLS, or nobody looked. */
  readonly tls?: DecisionTls;
  /** The process of this host that asks, where it is known: it is told of denials by `picket why`. */
  readonly process: { readonly uid: number | null; readonly pid: number | null } | null;
}

/** A decision that stands in the record. */
export interface Judgement {
  readonly decisionId: string;
  readonly verdict: Verdict;
}

/** A denial that no evaluation led to. */
export interface Refusal {
  readonly reason: Exclude<DecisionReason, 'policy_allow'>;
  /** More than the reason's own text says. */
  readonly message?: string;
  readonly http?: DecisionHttpRequest | null;
  /** Of a decision that was made elsewhere; a new one otherwise. */
  readonly decisionId?: string;
}

export interface JudgeOptions {
  readonly authorizer: Authorizer;
  readonly quarantine: Pick<Quarantine, 'findHold'>;
  readonly recorder: AccessRecorder;
  readonly denials: RecentDenials;
  readonly observer: ProxyObserver;
  readonly clock: Clock;
  /** A new UUID. */
  readonly newId: () => string;
}

const FORBIDDEN = 403;
const UNAVAILABLE = 503;
const MAX_TEXT = 1024;
const MAX_PATH = 8192;
const MAX_NAME = 255;

/**
 * Decides and writes down, in this order and before anything is forwarded or refused. What cannot be written down is denied, with reason
 * `audit_unavailable`.
 */
export class Judge {
  readonly #options: JudgeOptions;

  constructor(options: JudgeOptions) {
    this.#options = options;
  }

  /** A new id for a connection or a decision. */
  newId(): string {
    return this.#options.newId();
  }

  /** The refusal of an end that is in quarantine, whatever the policy says; undefined when neither is. Nothing is recorded. */
  findHold(encounter: Encounter): Refusal | undefined {
    const message = this.#options.quarantine.findHold(encounter);
    return message === undefined ? undefined : { reason: 'quarantined', message };
  }

  /** What quarantine and then the policy say on the called side. Nothing is recorded. */
  evaluate(encounter: Encounter, decisionId: string, http: DecisionHttpRequest | null): Verdict {
    const hold = this.findHold(encounter);
    if (hold !== undefined) return verdictOf(hold);
    return this.#options.authorizer.authorize(questionOf(encounter, decisionId, http));
  }

  /** What quarantine and then the policy say on the calling side. Nothing is recorded. */
  evaluateEgress(
    encounter: Encounter,
    decisionId: string,
    destination: 'mesh' | 'outside',
    http: DecisionHttpRequest | null = null,
  ): Verdict {
    const hold = this.findHold(encounter);
    if (hold !== undefined) return verdictOf(hold);
    return this.#options.authorizer.authorizeEgress(questionOf(encounter, decisionId, http), destination);
  }

  /** Whether the policy may decide what leaves the mesh by the name that the client asks for. */
  get asksForDomain(): boolean {
    return this.#options.authorizer.asksForDomain;
  }

  /** Records a verdict, and answers the one that counts. */
  record(encounter: Encounter, judgement: Judgement, http: DecisionHttpRequest | null): Judgement {
    const { decisionId, verdict } = judgement;
    const record = buildRecord(encounter, judgement, { http, nowMs: this.#options.clock.nowMs() });
    if (this.#options.recorder.record(record)) {
      this.#note(encounter, record);
      return judgement;
    }
    const { wouldDeny: _, ...decided } = verdict;
    const denied: Verdict = {
      ...decided,
      isAllowed: false,
      reason: 'audit_unavailable',
      message: DECISION_REASONS.audit_unavailable.text,
      httpStatus: UNAVAILABLE,
    };
    this.#note(
      encounter,
      buildRecord(encounter, { decisionId, verdict: denied }, { http, nowMs: this.#options.clock.nowMs() }),
    );
    return { decisionId, verdict: denied };
  }

  /** Decides on the called side and records it. */
  judge(encounter: Encounter, decisionId: string, http: DecisionHttpRequest | null): Judgement {
    return this.record(encounter, { decisionId, verdict: this.evaluate(encounter, decisionId, http) }, http);
  }

  /** Records a denial that is not the policy's. */
  refuse(encounter: Encounter, refusal: Refusal): Judgement {
    const { http = null, decisionId = this.newId() } = refusal;
    return this.record(encounter, { decisionId, verdict: verdictOf(refusal) }, http);
  }

  #note(encounter: Encounter, record: AccessRecord): void {
    this.#options.observer.decided(record);
    if (record.decision === 'allow' || encounter.process === null) return;
    this.#options.denials.note({ record, ...encounter.process });
  }
}

function questionOf(
  { caller, target, tls }: Encounter,
  decisionId: string,
  http: DecisionHttpRequest | null,
): DecisionRequest {
  return tls === undefined ? { decisionId, caller, target, http } : { decisionId, caller, target, http, tls };
}

function verdictOf({ reason, message }: Refusal): Verdict {
  return {
    isAllowed: false,
    reason,
    message: message === undefined ? DECISION_REASONS[reason].text : message.slice(0, MAX_TEXT),
    httpStatus: reason === 'overloaded' || reason === 'audit_unavailable' ? UNAVAILABLE : FORBIDDEN,
    policyVersion: null,
    latencyUs: 0,
  };
}

function buildRecord(
  encounter: Encounter,
  { decisionId, verdict }: Judgement,
  circumstances: { readonly http: DecisionHttpRequest | null; readonly nowMs: number },
): AccessRecord {
  const { caller, target, tls, direction } = encounter;
  const { http, nowMs } = circumstances;
  return {
    decision_id: decisionId,
    ts: new Date(nowMs).toISOString(),
    direction,
    caller_spiffe_id: caller.spiffeId,
    target_spiffe_id: target.spiffeId,
    source: formatAddress(caller),
    destination: formatAddress(target),
    protocol: protocolOf(http, tls),
    ...nameOf(encounter, http),
    method: http?.method ?? null,
    path: http === null ? null : http.path.slice(0, MAX_PATH),
    decision: verdict.isAllowed ? 'allow' : 'deny',
    ...auditedOf(verdict),
    reason: verdict.reason,
    message: verdict.message.slice(0, MAX_TEXT),
    policy_version: verdict.policyVersion,
    latency_us: Math.round(verdict.latencyUs * 10) / 10,
  };
}

/** Within the mesh the target has an identity, and names of the client's choice tell nothing. */
function nameOf(
  { target, tls, direction }: Encounter,
  http: DecisionHttpRequest | null,
): Pick<AccessRecord, 'server_name'> | undefined {
  if (direction === 'inbound' || target.spiffeId !== null) return undefined;
  const name = target.domain ?? http?.host ?? tls?.serverName ?? '';
  return name === '' ? undefined : { server_name: name.slice(0, MAX_NAME) };
}

function auditedOf({ wouldDeny }: Verdict): Pick<AccessRecord, 'would_deny' | 'rules'> | undefined {
  if (wouldDeny === undefined) return undefined;
  const rules = [...wouldDeny.rules];
  return rules.length === 0 ? { would_deny: true } : { would_deny: true, rules };
}

function formatAddress({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
