import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { checkerOf, when, type Check, type Finding } from './check.ts';

const check = checkerOf('agent');

/** Of what is limited: from here on it is worth a look, and from there on it hurts. */
const MUCH = 0.75;

const NEARLY_ALL = 0.95;

const MANY_RECORDS = 10_000;

/** What to do when records cannot be kept, by reason. */
const SPOOL_ADVICE: Readonly<Record<NonNullable<StatusAnswer['audit']['refusing']>, string>> = {
  disk_full: 'make room on the disk of data_dir',
  spool_full: 'let the server be reached again, or raise audit.max_bytes',
  spool_failed: 'the disk of data_dir fails: dmesg, the agent’s log (audit_spool_failed)',
  record_too_long: 'the agent’s log; a single request was refused for its length',
};

/** Decisions that wait for the server. */
export function checkSpool({ audit }: StatusAnswer): Check {
  const { depth, bytes, refused, refusing, isHeldBack } = audit;
  const found = `${depth} records wait for the server, ${bytes} bytes`;
  return check(
    'spool',
    found,
    refusing === undefined
      ? undefined
      : ['fail', `requests are refused: ${refusing}; ${found}`, SPOOL_ADVICE[refusing]],
    when(
      isHeldBack,
      'warn',
      `the server takes fewer records of this host than there are; ${refused} were refused since start; ${found}`,
      'see who is denied: picket why; or raise audit.denials_per_second (audit.records_per_second) of the server',
    ),
    when(
      refused > 0,
      'warn',
      `${refused} records were refused since start; ${found}`,
      'see the disk, and the log (audit_denials_refused)',
    ),
    when(depth > MANY_RECORDS, 'warn', found, 'see the check of the server; log: audit_shipping_failed'),
  );
}

/** Places for connections. */
export function checkConnections({ connections, maxConnections }: StatusAnswer): Check {
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

/** File descriptors. */
export function checkDescriptors({ descriptors: { open, limit, reserved, refused } }: StatusAnswer): Check {
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
