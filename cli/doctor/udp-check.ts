import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { checkerOf, firstOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

/** Of the flows that may pass: from here on others may soon find no room. */
const NEARLY_FULL = 0.75;

/** Whether UDP that leaves this host is decided on, where it should be. */
export function checkUdp({
  udp,
  capture,
}: Pick<StatusAnswer, 'udp'> & { readonly capture: Pick<StatusAnswer['capture'], 'mode'> }): Check {
  const undecided =
    capture.mode === 'off'
      ? 'the agent keeps no rules: what leaves is left alone'
      : 'what leaves is dropped, but for capture.allow_udp and egress.resolvers';
  return check(
    'udp',
    udp === null
      ? undecided
      : `what leaves is decided by the policy: ${udp.flows} flows of ${udp.maxFlows} at most`,
    when(
      udp?.isHearing === false,
      'fail',
      'UDP cannot be decided on, and is dropped: the agent does not hear of it',
      'look for datagrams_not_heard in the log: another program may have the NFLOG group 20553',
    ),
    when(
      udp !== null && udp.deafIn.length > 0,
      'warn',
      `UDP of ${firstOf(udp?.deafIn ?? [])} is dropped: the agent does not hear of it`,
      'look for datagrams_not_heard in the log: somebody within may have the NFLOG group 20553',
    ),
    when(
      udp !== null && udp.otherUsersIn.length > 0,
      'warn',
      `UDP of ${firstOf(udp?.otherUsersIn ?? [])} is dropped: it has a user namespace of its own`,
      'run what sends UDP in a pod without one (hostUsers: true), or name its peers in capture.allow_udp',
    ),
    when(
      udp !== null && udp.flows >= udp.maxFlows * NEARLY_FULL,
      'warn',
      `${udp?.flows ?? 0} flows of UDP pass, of ${udp?.maxFlows ?? 0} that may`,
      'raise limits.udp_flows, or find out who begins so many: picket audit access',
    ),
  );
}
