import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { OpenedIdentity } from '../identity/open-identity-manager.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import { startStatusReports } from '../server-link/status-reports.ts';

/** Tells the server what this host runs, has and decides by: regularly, and whenever the policy in force changes. */
export function reportStatus(options: {
  readonly version: string;
  readonly identity: OpenedIdentity;
  readonly holder: PolicyHolder;
  readonly addresses: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}): Running {
  const { version, holder, addresses, clock, log } = options;
  const { manager, api, time } = options.identity;
  const reports = startStatusReports({
    collect: () => ({
      agentVersion: version,
      cursor: manager.sync.current.position?.cursor ?? 0,
      policySequence: holder.policy.current?.statement.sequence ?? 0,
      addresses: [...addresses()],
      ...skewOf(time.skewMs),
    }),
    send: async (status) => await api.sendStatus(status),
    clock,
    log,
  });
  const unwatch = holder.policy.watch(() => reports.changed());
  return {
    async stop() {
      unwatch();
      await reports.stop();
    },
  };
}

/** To the second: it is no news that two clocks differ by another millisecond. */
function skewOf(skewMs: number | undefined): { readonly clockSkewMs?: number } {
  return skewMs === undefined ? {} : { clockSkewMs: Math.round(skewMs / 1000) * 1000 };
}
