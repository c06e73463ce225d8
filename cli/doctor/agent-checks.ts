import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { checkCapture, checkNamespaces, checkReturnPath } from './capture-checks.ts';
import { checkerOf, type Check } from './check.ts';
import { checkDisk } from './disk-check.ts';
import { checkFlood } from './flood-check.ts';
import { checkCertificate, checkWorkloads } from './identity-checks.ts';
import { checkConnections, checkDescriptors, checkSpool } from './limit-checks.ts';
import {
  checkClock,
  checkEnforcement,
  checkPolicy,
  checkQuarantine,
  checkServer,
} from './server-link-checks.ts';
import { checkUdp } from './udp-check.ts';
import { checkUsers } from './users-check.ts';
import { checkGateway, checkHbone, checkInspection, checkServices } from './reach-checks.ts';
import { checkWorkers } from './workers-check.ts';

const check = checkerOf('agent');

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
    checkUsers(status.userIssuers),
    checkHbone(status),
    checkWorkers(status),
    checkGateway(status),
    checkInspection(status, nowMs),
    checkUdp(status),
    checkCapture(status),
    ...checkReturnPath(status),
    ...checkNamespaces(status),
    checkSpool(status),
    checkServices(status),
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
