import type { CrowdSummary } from '../../shared/runtime/crowd-tally.ts';
import { formatDuration } from '../output.ts';
import { checkerOf, when, type Check } from './check.ts';

/** A flood that ended longer ago than this is not worth a warning. */
const RECENT_MS = 10 * 60_000;

/** Whether connections from the network had to be turned away lately. `nowMs` is the time of this host. */
export function checkFlood(area: 'agent' | 'server', turnedAway: CrowdSummary, nowMs: number): Check {
  const { count, lastAt } = turnedAway;
  const agoMs = lastAt === undefined ? Infinity : Math.max(0, nowMs - Date.parse(lastAt));
  return checkerOf(area)(
    'flood',
    'nobody was turned away lately',
    when(
      agoMs < RECENT_MS,
      'warn',
      `${count} connections were turned away since start because places ran short, the last one ${formatDuration(agoMs)} ago`,
      `find who opens them: the ${area}’s log, ${area === 'agent' ? 'mesh_connections_turned_away' : 'connections_turned_away'}, names an address; stop it there or in front of this host`,
    ),
  );
}
