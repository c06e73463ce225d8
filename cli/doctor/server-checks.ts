import type { z } from 'zod';
import type { PicketError } from '../../shared/errors/errors.ts';
import type { serverHealth } from '../../shared/protocol/operator.ts';
import type { CertificateSummary } from '../certificate-summary.ts';
import { formatDuration, formatSkew } from '../output.ts';
import { checkerOf, when, type Check } from './check.ts';
import { checkFlood } from './flood-check.ts';

const check = checkerOf('server');

/** The certificates of an authority are renewed by people: they are told this long before. */
const WARN_BEFORE_MS = 30 * 86_400_000;

/** What the server answered when it was asked how it is. */
export type Health = z.output<typeof serverHealth>;

/** Whether the server runs, and its database with it. */
export function checkServerHealth(health: Health | PicketError, nowMs: number): readonly Check[] {
  if (!(health instanceof Error))
    return [
      check('running', `version ${health.version}, ${health.agentsConnected} agents connected`),
      check('database', `${health.datastore}, change ${health.changeSequence}`),
      checkClock(health),
      checkFlood('server', health.turnedAway, nowMs),
      checkRecords(health),
    ];
  if (health.reason === 'database_unavailable' || health.reason === 'database_full')
    return [
      check('running', 'it answers'),
      check('database', '', [
        'fail',
        health.message,
        'is PostgreSQL up, is database.url right, has its disk room? The server goes on by itself then; agents keep what they decide',
      ]),
    ];
  return [
    check('running', '', [
      'fail',
      health.message,
      'systemctl start picket-server; why it ended: journalctl -u picket-server',
    ]),
  ];
}

function checkClock({ clockJumpMs, hasClockJumped }: Health): Check {
  return check(
    'clock',
    'nobody has set it since the server started',
    when(
      hasClockJumped,
      'warn',
      `it was set: ${formatSkew(clockJumpMs)} of where it would be. Hosts take no certificate of a clock that is wrong`,
      'set it right and keep it by NTP; if it is right now, this goes some minutes after all hosts agree with it',
    ),
  );
}

function checkRecords({ heldBack: { count, hosts } }: Health): Check {
  const [first] = hosts;
  return check(
    'records',
    'no host sends more than it may',
    when(
      first !== undefined,
      'warn',
      `${count} hosts send more than they may and keep the rest for now: ${hosts.map(({ nodeId, why }) => `${nodeId} (${why})`).join(', ')}`,
      'who is denied there: picket audit access --decision deny; audit.denials_per_second and audit.records_per_second say how many there may be',
    ),
  );
}

/** The certificates of the authority, each by its end. */
export function checkAuthority(
  certificates: readonly CertificateSummary[] | PicketError,
  nowMs: number,
): readonly Check[] {
  if (certificates instanceof Error)
    return [
      check('authority', '', [
        'fail',
        certificates.message,
        'docs/backup.md, "Lost keys"; or is ca.directory another one?',
      ]),
    ];
  return certificates.map((certificate) => checkEnd(certificate, nowMs));
}

function checkEnd({ subject, isRoot, notAfter }: CertificateSummary, nowMs: number): Check {
  const leftMs = Date.parse(notAfter) - nowMs;
  const found = `${subject}: ${leftMs > 0 ? `${formatDuration(leftMs)} left` : 'ended'}, ${notAfter}`;
  const advice = isRoot
    ? 'put another root in its place: docs/root.md'
    : 'picket ca renew, on the machine that has the root';
  return check(
    isRoot ? 'root' : 'authority',
    found,
    when(leftMs <= 0, 'fail', found, advice),
    when(leftMs < WARN_BEFORE_MS, 'warn', found, advice),
  );
}
