import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { formatDuration, formatSkew } from '../output.ts';
import { checkerOf, when, type Check, type Finding } from './check.ts';
import { checkDisk } from './disk-check.ts';
import { checkFlood } from './flood-check.ts';

const check = checkerOf('agent');

/** Renewal is at half of a certificate's life: what has less left than this part of it was not renewed when it was due. */
const LATE_RENEWAL = 0.25;
/** Servers date certificates back by this. */
const DATED_BACK_MS = 5 * 60_000;
/** A clock that is off by more than this will soon be off by too much. */
const NOTABLE_SKEW_MS = 60_000;
/** Of what is limited: from here on it is worth a look, and from there on it hurts. */
const MUCH = 0.75;
const NEARLY_ALL = 0.95;
const MANY_RECORDS = 10_000;

/** What the agent says of itself, judged. `nowMs` is the time of this host. */
export function checkAgent(status: StatusAnswer, nowMs: number): readonly Check[] {
  return [
    check('running', `version ${status.version}, since ${status.startedAt}`),
    checkReady(status),
    checkCertificate(status, nowMs),
    checkWorkloads(status, nowMs),
    checkServer(status, nowMs),
    checkClock(status),
    checkPolicy(status),
    checkEnforcement(status),
    checkQuarantine(status),
    checkCapture(status),
    checkSpool(status),
    checkConnections(status),
    checkDescriptors(status),
    checkFlood('agent', status.turnedAway, nowMs),
    checkDisk('agent', status.dataDirectory, status.disk),
  ];
}

/** The agent does not answer; `why` says how. */
export function agentIsDown(why: string, hasRules: boolean): Check {
  const consequence = hasRules ? 'Traffic is refused' : 'Without capture rules traffic passes WITHOUT Picket';
  return check('running', '', [
    'fail',
    `${why} ${consequence}`,
    'systemctl start picket-agent; why it ended: journalctl -u picket-agent',
  ]);
}

function checkReady({ missing }: StatusAnswer): Check {
  return check(
    'ready',
    'it does all its work',
    missing === undefined
      ? undefined
      : ['fail', missing, 'see the checks below; the agent’s log tells what it waits for'],
  );
}

function checkCertificate({ agent }: StatusAnswer, nowMs: number): Check {
  const advice = 'the agent’s log: attestation_failed, renewal_failed; is the server reached?';
  if (agent === null)
    return check('certificate', '', [
      'fail',
      'none: this host has not attested, or its certificate has ended',
      advice,
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

function checkWorkloads({ identities }: StatusAnswer, nowMs: number): Check {
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

function checkServer({ server }: StatusAnswer, nowMs: number): Check {
  const { isConnected, lastHeardAt, failure, refusal } = server;
  const since =
    lastHeardAt === undefined
      ? 'never heard since the agent started'
      : `last heard ${lastHeardAt}, ${formatDuration(nowMs - Date.parse(lastHeardAt))} ago`;
  return check(
    'server',
    `connected, ${since}`,
    refusal === undefined
      ? undefined
      : [
          'fail',
          `turned away: ${refusal}`,
          'docs/troubleshooting.md, "The agent": node_banned, node_unknown and others',
        ],
    when(
      !isConnected,
      'fail',
      `not connected, ${since}${failure === undefined ? '' : `: ${failure}`}`,
      'is the server up, is its port 8443 reachable from here? What passes goes on passing until certificates end',
    ),
    failure === undefined ? undefined : ['warn', failure, 'it is tried again; the agent’s log tells more'],
  );
}

function checkClock({ server: { clockSkewMs, isClockSkewed } }: StatusAnswer): Check {
  if (clockSkewMs === undefined)
    return check('clock', '', [
      'warn',
      'not compared: no server has answered yet',
      'see the check of the server',
    ]);
  const found = `${formatSkew(clockSkewMs)} of the server’s`;
  const advice = 'set the clock of this host, or of the server, and keep both by NTP (capture.allow_udp)';
  return check(
    'clock',
    found,
    when(isClockSkewed, 'fail', `${found}: certificates are refused`, advice),
    when(Math.abs(clockSkewMs) > NOTABLE_SKEW_MS, 'warn', found, advice),
  );
}

function checkPolicy({ policy }: StatusAnswer): Check {
  return check(
    'policy',
    `version ${policy?.version}, sequence ${policy?.sequence}`,
    when(
      policy === null,
      'fail',
      'none is in force: everything is denied',
      'picket policy publish DIRECTORY; the agent’s log: policy_refused',
    ),
  );
}

const QUARANTINE_ADVICE = 'picket quarantine list says why; an operator lifts it: picket quarantine lift';

function checkQuarantine({ quarantine: { inForce, isThisHost, workloads } }: StatusAnswer): Check {
  return check(
    'quarantine',
    `nothing of this host; ${inForce} in force in the mesh`,
    when(
      isThisHost,
      'fail',
      'this host is in quarantine: nothing on it calls or is called',
      QUARANTINE_ADVICE,
    ),
    when(
      workloads.length > 0,
      'warn',
      `${workloads.length} workloads of this host are in quarantine: ${firstOf(workloads)}`,
      QUARANTINE_ADVICE,
    ),
  );
}

function checkEnforcement({ auditedServices }: StatusAnswer): Check {
  return check(
    'enforcement',
    'every service of this host is enforced',
    when(
      auditedServices.length > 0,
      'warn',
      `in audit mode, so that what the policy denies passes: ${firstOf(auditedServices)}`,
      'picket enforcement report SERVICE, then picket enforcement enforce SERVICE',
    ),
  );
}

const CAPTURE_ADVICE =
  'find who does it: nftables.service, a firewall manager, a script that runs nft flush ruleset';

function checkCapture({ capture }: StatusAnswer): Check {
  const { mode, isIntact, repairs, isWatched, isContested, changedBy } = capture;
  const last = changedBy === undefined ? '' : `, the last time ${changedBy}`;
  return check(
    'capture',
    `by ${mode}: all is in the kernel, and nobody has changed it`,
    when(
      mode === 'off',
      'warn',
      'the agent does not keep the rules: capture.enabled is false',
      'set capture.enabled to true, or look after the rules yourself: picket agent capture show',
    ),
    when(
      isContested,
      'fail',
      `somebody takes the rules away again and again, ${repairs} times since the agent started${last}: in between traffic passes WITHOUT Picket`,
      CAPTURE_ADVICE,
    ),
    when(
      !isIntact,
      'fail',
      'the rules in the kernel are not the agent’s',
      'the agent’s log: capture_failed, capture_rules_changed',
    ),
    when(
      repairs > 0,
      'warn',
      `somebody changed or flushed the rules ${repairs} times since the agent started${last}; they were put back`,
      CAPTURE_ADVICE,
    ),
    when(
      mode !== 'off' && !isWatched,
      'warn',
      'changes of the rules are not heard of at once, only found every 5 s',
      'the agent’s log: capture_watch_failed',
    ),
  );
}

/** What to do when records cannot be kept, by reason. */
const SPOOL_ADVICE: Readonly<Record<NonNullable<StatusAnswer['audit']['refusing']>, string>> = {
  disk_full: 'make room on the disk of data_dir',
  spool_full: 'let the server be reached again, or raise audit.max_bytes',
  spool_failed: 'the disk of data_dir fails: dmesg, the agent’s log (audit_spool_failed)',
  record_too_long: 'the agent’s log; a single request was refused for its length',
};

function checkSpool({ audit: { depth, bytes, refused, refusing } }: StatusAnswer): Check {
  const found = `${depth} records wait for the server, ${bytes} bytes`;
  return check(
    'spool',
    found,
    refusing === undefined
      ? undefined
      : ['fail', `requests are refused: ${refusing}; ${found}`, SPOOL_ADVICE[refusing]],
    when(refused > 0, 'warn', `${refused} requests were refused since start; ${found}`, 'see the disk'),
    when(depth > MANY_RECORDS, 'warn', found, 'see the check of the server; log: audit_shipping_failed'),
  );
}

function checkConnections({ connections, maxConnections }: StatusAnswer): Check {
  return check(
    'connections',
    `${connections} of ${maxConnections}`,
    ...nearLimit(
      connections,
      maxConnections,
      'connections',
      'raise limits.connections (and LimitNOFILE), or find who opens them',
    ),
  );
}

function checkDescriptors({ descriptors: { open, limit, reserved, refused } }: StatusAnswer): Check {
  const advice = 'raise LimitNOFILE in the unit of the agent, or find who opens so many connections';
  return check(
    'descriptors',
    `${open} of ${limit ?? 'any number'}`,
    ...nearLimit(open, (limit ?? Infinity) - reserved, 'file descriptors that connections may take', advice),
    when(refused > 0, 'warn', `${refused} connections were refused for want of file descriptors`, advice),
  );
}

function nearLimit(used: number, limit: number, what: string, advice: string): (Finding | undefined)[] {
  const found = `${used} of ${limit} ${what}`;
  return [
    when(limit > 0 && used >= limit * NEARLY_ALL, 'fail', found, advice),
    when(limit > 0 && used >= limit * MUCH, 'warn', found, advice),
  ];
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

const SHOWN = 3;

function firstOf(names: readonly string[]): string {
  return names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ', …' : '');
}
