import { DECISION_REASONS, type Verdict } from '../../../shared/policy/decision.ts';
import type { Encounter } from '../judge/judge.ts';
import { denied } from './denied.ts';

/**
 * What the policy says of leaving the mesh, where this is not on its terms: a gateway takes only what the policy sends through it, and a certificate can be asked for
 * only of a server that is spoken to by TLS, and only TLS can be inspected.
 */
export function withTermsKept(verdict: Verdict, encounter: Encounter): Verdict {
  const { isAllowed, terms } = verdict;
  if (!isAllowed) return verdict;
  const { direction, via, tls } = encounter;
  if (direction === 'inbound' && (via === undefined || terms?.via !== via))
    return denied(verdict, 'egress_deny', `The policy does not send this through ${via ?? 'this host'}`);
  if (terms?.certificate !== undefined && tls === undefined)
    return denied(
      verdict,
      'certificate_refused',
      `${DECISION_REASONS.certificate_refused.text}: the program does not speak TLS`,
    );
  if (terms?.isInspected === true && tls === undefined)
    return denied(
      verdict,
      'inspection_refused',
      `${DECISION_REASONS.inspection_refused.text}: the program does not speak TLS`,
    );
  return verdict;
}
