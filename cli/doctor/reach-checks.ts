import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { formatDuration } from '../output.ts';
import { checkerOf, firstOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

/** An authority that programs trust is replaced by people. */
const AUTHORITY_ENDS_SOON_MS = 14 * 86_400_000;

/** That nobody is answered by HBONE is a fault only for who wants it. */
export function checkHbone({ hbone: { isAccepted, callable, peers, untrusted } }: StatusAnswer): Check {
  const answered = isAccepted && callable.length === 1 ? `answered as ${callable[0] ?? ''}` : 'not answered';
  return check(
    'hbone',
    `${answered}, ${peers} peers`,
    when(
      untrusted.length > 0,
      'warn',
      `no trust bundle for ${untrusted.length} of ${peers} peers: ${firstOf(untrusted)}`,
      'mesh.hbone.peers in agent.yaml: nobody of another trust domain can prove to be one (docs/hbone.md)',
    ),
  );
}

/** Services in several places. */
export function checkServices({ services }: StatusAnswer): Check {
  const empty = services.filter(({ members }) => members.length === 0);
  const ejected = services.flatMap(({ name, members }) =>
    members
      .filter(({ ejectedSeconds }) => ejectedSeconds > 0)
      .map(({ address, port, lastFailure }) => `${name} at ${address} port ${port}: ${lastFailure}`),
  );
  return check(
    'services',
    services.length === 0 ? 'none in several places' : `${services.length} in several places`,
    when(
      empty.length > 0,
      'warn',
      `no member: ${firstOf(empty.map(({ name }) => name))}`,
      'picket service list; no confirmed address has a listener of that identity at that port',
    ),
    when(
      ejected.length > 0,
      'warn',
      `${ejected.length} members are passed over: ${firstOf(ejected)}`,
      'picket agent status shows all members; look at the host that fails',
    ),
  );
}

/** Whether a gateway that is registered here is one. */
export function checkGateway({ gateway: { isEnabled, identities } }: StatusAnswer): Check {
  return check(
    'gateway',
    isEnabled ? `takes out of the mesh what is sent through ${firstOf(identities)}` : 'this host is none',
    when(
      isEnabled && identities.length === 0,
      'warn',
      'it runs as a gateway, but no entry of this host has a listener PORT/egress: it takes nothing out',
      'picket entry create ID --parent AGENT --selector unix:uid:0 --selector unix:path:/usr/local/bin/picket --listen 15008/egress',
    ),
    when(
      !isEnabled && identities.length > 0,
      'warn',
      `it is registered as the gateway ${firstOf(identities)}, but does not run as one: what is sent through it is refused`,
      'run it by picket gateway --egress in the place of picket agent run',
    ),
  );
}

/** The authority by which TLS is inspected. */
export function checkInspection({ inspection }: StatusAnswer, nowMs: number): Check {
  if (inspection === null) return check('inspection', 'no TLS is inspected by this host');
  const { authority, notAfter } = inspection;
  const leftMs = Date.parse(notAfter) - nowMs;
  const advice = 'put a new certificate into egress.inspection.certificate_file, then picket agent upgrade';
  return check(
    'inspection',
    `by ${authority}, ${formatDuration(leftMs)} left`,
    when(leftMs <= 0, 'fail', `the authority ended ${notAfter}: what is to be inspected is refused`, advice),
    when(leftMs < AUTHORITY_ENDS_SOON_MS, 'warn', `the authority ends in ${formatDuration(leftMs)}`, advice),
  );
}
