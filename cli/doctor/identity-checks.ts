import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { formatDuration } from '../output.ts';
import { checkerOf, firstOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

/** Renewal is at half of a certificate's life: what has less left than this part of it was not renewed when it was due. */
const LATE_RENEWAL = 0.25;

/** Servers date certificates back by this. */
const DATED_BACK_MS = 5 * 60_000;

/** The certificate of the host itself. */
export function checkCertificate({ agent }: StatusAnswer, nowMs: number): Check {
  const advice = 'the agent’s log: attestation_failed, renewal_failed; is the server reached?';
  if (agent === null)
    return check('certificate', '', [
      'fail',
      'none: this host has not attested, or its certificate has ended',
      'see the check of the server; the agent’s log: attestation_failed, renewal_failed',
    ]);
  const { leftMs, isLate } = lifeOf(agent, nowMs);
  const found = `${agent.spiffeId}, ${leftMs > 0 ? `${formatDuration(leftMs)} left` : `ended ${agent.notAfter}`}`;
  return check(
    'certificate',
    found,
    when(leftMs <= 0, 'fail', found, advice),
    when(isLate, 'warn', `${found}: it should have been renewed`, advice),
  );
}

/** The certificates of its workloads. */
export function checkWorkloads({ identities }: StatusAnswer, nowMs: number): Check {
  const late = identities.filter((identity) => lifeOf(identity, nowMs).isLate);
  return check(
    'workloads',
    `${identities.length} identities`,
    when(
      late.length > 0,
      'warn',
      `${late.length} of ${identities.length} should have been renewed: ${firstOf(late.map(({ spiffeId }) => spiffeId))}`,
      'the agent’s log: renewal_failed, svid_refused; is the server reached?',
    ),
  );
}

function lifeOf(
  life: { readonly notBefore: string; readonly notAfter: string },
  nowMs: number,
): { readonly leftMs: number; readonly isLate: boolean } {
  const notAfterMs = Date.parse(life.notAfter);
  const leftMs = notAfterMs - nowMs;
  const whole = notAfterMs - Date.parse(life.notBefore);
  const issuedMs = whole > DATED_BACK_MS ? whole - DATED_BACK_MS : whole;
  return { leftMs, isLate: leftMs < issuedMs * LATE_RENEWAL };
}
