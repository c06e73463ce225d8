import type { Verdict } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Directory } from '../../directory/directory.ts';
import type { IdentitySource } from '../../identity/identity.ts';
import type { InNamespace } from '../../native/network-namespace.ts';
import type { UdpSocket } from '../../native/sock-diag-message.ts';
import type { ProcessIdentity, SenderIdentifier } from '../../workload-attestation/process-identity.ts';
import { findHoldOfNobody, findValidSvid } from '../outbound/caller-holds.ts';
import type { Judge, Judgement, Refusal } from '../judge/judge.ts';
import type { Sender } from './flow.ts';

/** `namespace`: where the sockets are. */
export interface FlowJudgeOptions extends InNamespace {
  readonly judge: Judge;
  readonly directory: Directory;
  readonly processes: SenderIdentifier;
  readonly identities: IdentitySource['identities'];
  readonly clock: Clock;
}

/** Decides on flows of UDP as on connections that leave the mesh, and writes it down. */
export class FlowJudge {
  readonly #options: FlowJudgeOptions;

  constructor(options: FlowJudgeOptions) {
    this.#options = options;
  }

  /** Whose sockets they are, any of which may have sent; nobody's, where none is known. */
  async identify(sockets: readonly UdpSocket[]): Promise<Pick<Sender, 'identity' | 'svid'>> {
    const { processes, identities, namespace, clock } = this.#options;
    if (sockets.length === 0) return { identity: UNKNOWN, svid: null };
    const identity = await processes.identifySender(sockets, { namespace });
    const svid =
      identity.kind === 'identified' ? findValidSvid(identities, identity.spiffeId, clock.nowMs()) : null;
    return { identity, svid };
  }

  /** The verdict on a flow, recorded where it allows, or where `isRecorded` says so of a denial. `refusal` is what forbids it before the policy is asked. */
  judge(
    sender: Sender,
    options: { readonly refusal: Refusal | undefined; readonly isRecorded: (verdict: Verdict) => boolean },
  ): Verdict {
    const { judge } = this.#options;
    const judgement = this.#evaluate(sender, options.refusal);
    if (!judgement.verdict.isAllowed && !options.isRecorded(judgement.verdict)) return judgement.verdict;
    return judge.record(sender.encounter, judgement, null).verdict;
  }

  /** Whether a flow may go on; what may not is recorded. */
  mayGoOn(sender: Sender): boolean {
    const judgement = this.#evaluate(sender, undefined);
    if (judgement.verdict.isAllowed) return true;
    this.#options.judge.record(sender.encounter, judgement, null);
    return false;
  }

  #evaluate(sender: Sender, refusal: Refusal | undefined): Judgement {
    const { judge } = this.#options;
    const { encounter } = sender;
    const found = this.#findHold(sender) ?? refusal ?? this.#findLoss(sender);
    const decisionId = judge.newId();
    if (found !== undefined) return { decisionId, verdict: judge.verdictOn(found) };
    const verdict = judge.evaluateEgress(encounter, decisionId, 'outside');
    if (!verdict.isAllowed || verdict.terms === undefined) return { decisionId, verdict };
    return { decisionId, verdict: judge.verdictOn(NO_TERMS) };
  }

  #findHold({ encounter, identity, svid }: Sender): Refusal | undefined {
    const { judge } = this.#options;
    return svid === null ? findHoldOfNobody(judge, encounter, identity) : judge.findHold(encounter);
  }

  #findLoss({ encounter, svid }: Sender): Refusal | undefined {
    const { directory, identities, clock } = this.#options;
    if (svid !== null && findValidSvid(identities, svid.spiffeId, clock.nowMs()) === null)
      return { reason: 'caller_unidentified', message: 'The identity was withdrawn' };
    if (directory.find(encounter.target).kind === 'outside') return undefined;
    return { reason: 'target_unknown', message: 'UDP is not carried to hosts of the mesh' };
  }
}

const NO_TERMS: Refusal = {
  reason: 'egress_deny',
  message: 'The policy lets it out on terms, which UDP cannot be held to',
};

const UNKNOWN: ProcessIdentity = { kind: 'unidentified', why: 'no_holder', pid: null, uid: null };
