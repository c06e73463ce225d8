import {
  DECISION_REASONS,
  type DecisionCaller,
  type DecisionHttpRequest,
  type DecisionReason,
  type DecisionRequest,
  type DecisionTarget,
  type DecisionTls,
  type Verdict,
} from '../../../shared/policy/decision.ts';
import type { AccessRecord } from '../../../shared/protocol/audit.ts';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { AccessRecorder } from '../../audit/access-recorder.ts';
import type { RecordBatch } from '../../audit/record-batch.ts';
import type { Authorizer } from '../../policy/authorizer.ts';
import type { Quarantine } from '../../quarantine/quarantine.ts';
import { buildRecord } from '../records/access-record.ts';
import type { Hop, Passage } from '../../traces/traces.ts';
import { withTermsKept } from '../outside/egress-terms-kept.ts';
import type { ProxyObserver } from '../records/proxy-observer.ts';
import type { RecentDenials } from '../records/recent-denials.ts';
import type { RecordedQueries } from '../records/recorded-path.ts';
import { RecordForms } from '../records/record-form.ts';
import { RecordTurn } from '../records/record-turn.ts';

/** Who asks whom: the same for every decision of a connection. */
export interface Encounter {
  readonly direction: 'inbound' | 'outbound';
  readonly caller: DecisionCaller;
  readonly target: DecisionTarget;
  /**
   * Out of the mesh: the gateway that takes it. The host of the program names it once the policy has; a gateway, whose encounters are `inbound`, names itself.
   */
  readonly via?: SpiffeId;
  /** What the client says before it encrypts; absent where it is no TLS, or nobody looked. */
  readonly tls?: DecisionTls;
  /** Out of the mesh: we end that TLS, and see what is within. */
  readonly isInspected?: true;
  /** A flow of UDP datagrams; absent for connections. */
  readonly transport?: 'udp';
  /** The process of this host that asks, where it is known: it is told of denials by `picket why`. */
  readonly process: { readonly uid: number | null; readonly pid: number | null } | null;
  /** The span of the connection, which hears what is decided of it. */
  readonly passage?: Passage | undefined;
}

/** A decision that stands in the record, or will. */
export interface Judgement {
  readonly decisionId: string;
  readonly verdict: Verdict;
  /** Of what is allowed and not written down yet: nothing of it may go on before this is kept. */
  readonly batch?: RecordBatch;
  /** Another host decided it, and told us. */
  readonly isTold?: true;
  /** Where traces are asked for. */
  readonly hop?: Hop;
}

/** A denial that no evaluation led to. */
export interface Refusal {
  readonly reason: Exclude<DecisionReason, 'policy_allow'>;
  /** More than the reason's own text says. */
  readonly message?: string;
  readonly http?: DecisionHttpRequest | null;
  /** Of a decision that was made elsewhere; a new one otherwise. */
  readonly decisionId?: string;
  /** Another host decided it, and told us. */
  readonly isTold?: true;
  /** Of the trace of the request. */
  readonly traceId?: string | undefined;
}

export interface JudgeOptions {
  readonly authorizer: Authorizer;
  readonly quarantine: Pick<Quarantine, 'findHold'>;
  readonly recorder: AccessRecorder;
  /** What is written down of the query of a request. */
  readonly queries: RecordedQueries;
  readonly denials: Pick<RecentDenials, 'note'>;
  readonly observer: ProxyObserver;
  readonly clock: Clock;
  /** A new UUID. */
  readonly newId: () => string;
}

const FORBIDDEN = 403;
const UNAVAILABLE = 503;
const MAX_TEXT = 1024;

/**
 * Decides and writes down, in this order and before anything is forwarded or refused. What cannot be written down is denied, with reason
 * `audit_unavailable`.
 */
export class Judge {
  readonly #options: JudgeOptions;
  readonly #forms: RecordForms;
  readonly #turn: RecordTurn;

  constructor(options: JudgeOptions) {
    this.#options = options;
    this.#forms = new RecordForms(options);
    this.#turn = new RecordTurn(options.recorder);
  }

  /** A new id for a connection or a decision. */
  newId(): string {
    return this.#options.newId();
  }

  /** The refusal of an end that is in quarantine, whatever the policy says; undefined when neither is. Nothing is recorded. */
  findHold(encounter: Encounter): Refusal | undefined {
    const { caller, target, via } = encounter;
    const { quarantine } = this.#options;
    const message =
      quarantine.findHold(encounter) ??
      (via === undefined ? undefined : quarantine.findHold({ caller, target: { ...target, spiffeId: via } }));
    return message === undefined ? undefined : { reason: 'quarantined', message };
  }

  /** What quarantine and then the policy say on the called side. Nothing is recorded. */
  evaluate(encounter: Encounter, decisionId: string, http: DecisionHttpRequest | null): Verdict {
    const hold = this.findHold(encounter);
    if (hold !== undefined) return verdictOf(hold);
    return this.#options.authorizer.authorize(questionOf(encounter, decisionId, http));
  }

  /**
   * What quarantine and then the policy say on the calling side, and of what leaves the mesh at its gateway too, where the verdict is kept to the terms that it is on
   * (`withTermsKept`). Nothing is recorded.
   */
  evaluateEgress(
    encounter: Encounter,
    decisionId: string,
    destination: 'mesh' | 'outside',
    http: DecisionHttpRequest | null = null,
  ): Verdict {
    const hold = this.findHold(encounter);
    if (hold !== undefined) return verdictOf(hold);
    const verdict = this.#options.authorizer.authorizeEgress(
      questionOf(encounter, decisionId, http),
      destination,
    );
    return destination === 'outside' ? withTermsKept(verdict, encounter) : verdict;
  }

  /** A refusal as a verdict. Nothing is recorded. */
  verdictOn(refusal: Refusal): Verdict {
    return verdictOf(refusal);
  }

  /** Whether the policy may decide what leaves the mesh by the name that the client asks for. */
  get asksForDomain(): boolean {
    return this.#options.authorizer.asksForDomain;
  }

  /** Records a verdict, and answers the one that counts. */
  record(
    encounter: Encounter,
    judgement: Judgement,
    http: DecisionHttpRequest | null,
    traceId?: string,
  ): Judgement {
    if (http !== null || encounter.passage === undefined)
      return this.#write(encounter, judgement, { http, traceId });
    const { passage } = encounter;
    const answered = this.#write(encounter, judgement, { http, traceId: passage.traceId });
    passage.judged(encounter, answered);
    return answered;
  }

  /** Decides on the called side and records it. */
  judge(encounter: Encounter, decisionId: string, http: DecisionHttpRequest | null): Judgement {
    return this.record(encounter, { decisionId, verdict: this.evaluate(encounter, decisionId, http) }, http);
  }

  /**
   * Decides a request on the called side. A denial is recorded at once; what is allowed is written together with others of its turn: it goes on by `whenKept`, or
   * after `commit` if its batch was kept then.
   */
  judgeAhead(encounter: Encounter, http: DecisionHttpRequest, traceId?: string): Judgement {
    const decisionId = this.newId();
    const verdict = this.evaluate(encounter, decisionId, http);
    if (!verdict.isAllowed) return this.record(encounter, { decisionId, verdict }, http, traceId);
    const form = this.#forms.find(encounter, verdict);
    const text = form.textOf({
      decisionId,
      http,
      latencyUs: verdict.latencyUs,
      nowMs: this.#options.clock.nowMs(),
      traceId,
    });
    const batch = this.#options.recorder.add(text);
    if (batch === undefined) return this.#deniedUnrecorded(encounter, { decisionId, verdict }, http);
    form.count(verdict.latencyUs);
    return { decisionId, verdict, batch };
  }

  /** Goes on at the end of this turn of the event loop, when what was judged in it is written, and tells whether that was kept. */
  whenKept(batch: RecordBatch, goOn: (isKept: boolean) => void): void {
    this.#turn.run(batch, goOn);
  }

  /** Writes down what was judged ahead. */
  commit(): void {
    this.#options.recorder.commit();
  }

  /** Records a denial that is not the policy's. */
  refuse(encounter: Encounter, refusal: Refusal): Judgement {
    const { http = null, decisionId = this.newId(), traceId, isTold } = refusal;
    const judgement = {
      decisionId,
      verdict: verdictOf(refusal),
      ...(isTold === undefined ? {} : { isTold }),
    };
    return this.record(encounter, judgement, http, traceId);
  }

  #write(
    encounter: Encounter,
    judgement: Judgement,
    { http, traceId }: { readonly http: DecisionHttpRequest | null; readonly traceId: string | undefined },
  ): Judgement {
    const record = this.#build(encounter, judgement, { http, traceId });
    if (!this.#options.recorder.record(record)) return this.#deniedUnrecorded(encounter, judgement, http);
    this.#note(encounter, record, judgement.isTold === true);
    return judgement;
  }

  #deniedUnrecorded(
    encounter: Encounter,
    { decisionId, verdict }: Judgement,
    http: DecisionHttpRequest | null,
  ): Judgement {
    const { wouldDeny: _, ...decided } = verdict;
    const denied: Verdict = {
      ...decided,
      isAllowed: false,
      reason: 'audit_unavailable',
      message: DECISION_REASONS.audit_unavailable.text,
      httpStatus: UNAVAILABLE,
    };
    const judgement = { decisionId, verdict: denied };
    const record = this.#build(encounter, judgement, { http });
    this.#note(encounter, record, false);
    return judgement;
  }

  #build(
    encounter: Encounter,
    judgement: Judgement,
    asked: { readonly http: DecisionHttpRequest | null; readonly traceId?: string | undefined },
  ): AccessRecord {
    const { clock, queries } = this.#options;
    return buildRecord(encounter, judgement, { ...asked, nowMs: clock.nowMs(), queries });
  }

  #note(encounter: Encounter, record: AccessRecord, isTold: boolean): void {
    this.#options.observer.decided(record);
    if (record.decision === 'allow' || encounter.process === null) return;
    this.#options.denials.note({ record, isTold, ...encounter.process });
  }
}

function questionOf(
  { caller, target, tls, transport }: Encounter,
  decisionId: string,
  http: DecisionHttpRequest | null,
): DecisionRequest {
  const question = { decisionId, caller, target, http };
  // Of requests within the mesh it is neither, and each of them comes by here.
  if (tls === undefined && transport === undefined) return question;
  return {
    ...question,
    ...(tls === undefined ? {} : { tls }),
    ...(transport === undefined ? {} : { transport }),
  };
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
