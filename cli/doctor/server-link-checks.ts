import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { formatDuration, formatSkew } from '../output.ts';
import { checkerOf, firstOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

/** A clock that is off by more than this will soon be off by too much. */
const NOTABLE_SKEW_MS = 60_000;

/** What to do about a server that answers and does not let the host attest, by the reason before the colon. */
const ATTESTATION_ADVICE: Readonly<Record<string, string>> = {
  ek_not_approved:
    'if it is the hash of this host: picket node tpm approve EK-HASH --name NAME --address ADDRESS, where operators are; the agent asks again by itself',
  join_token_invalid:
    'picket token create NAME --address ADDRESS, where operators are; put the token into attestation, and restart the agent',
  root_pin_mismatch:
    'trust.root_key_sha256 is another root’s: picket ca show, or picket token create, print the right one',
};

/** Whether the server is heard. */
export function checkServer({ server, agent }: StatusAnswer, nowMs: number): Check {
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
      ATTESTATION_ADVICE[failure?.split(':', 1)[0] ?? ''] ??
        `is the server up, is its port 8443 reachable from here?${agent === null ? '' : ' What passes goes on passing until certificates end'}`,
    ),
    failure === undefined ? undefined : ['warn', failure, 'it is tried again; the agent’s log tells more'],
  );
}

/** This host's clock beside the server's. */
export function checkClock({ server: { clockSkewMs, isClockSkewed } }: StatusAnswer): Check {
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

/** Whether there is a policy to decide by. */
export function checkPolicy({ policy, agent }: StatusAnswer): Check {
  return check(
    'policy',
    `version ${policy?.version}, sequence ${policy?.sequence}`,
    when(
      policy === null,
      'fail',
      'none is in force: everything is denied',
      agent === null
        ? 'this host has to attest first: see the check of the server'
        : 'picket policy publish DIRECTORY; the agent’s log: policy_refused',
    ),
  );
}

/** Services whose policy is watched and not enforced. */
export function checkEnforcement({ auditedServices }: StatusAnswer): Check {
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

const QUARANTINE_ADVICE = 'picket quarantine list says why; an operator lifts it: picket quarantine lift';

/** Who is held. */
export function checkQuarantine({ quarantine: { inForce, isThisHost, workloads } }: StatusAnswer): Check {
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
