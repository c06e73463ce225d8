import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { IssuedSvids } from '../agents/issued-svids.ts';
import type { JoinTokens } from '../agents/join-tokens.ts';
import type { AccessLog } from '../audit/access-log.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { pruneChangeLog } from '../sync/change-reader.ts';

export interface MaintenanceOptions {
  readonly datastore: Datastore;
  readonly issued: Pick<IssuedSvids, 'prune'>;
  readonly tokens: Pick<JoinTokens, 'prune'>;
  readonly accessLog: Pick<AccessLog, 'prune'>;
  /** How long access records are kept. */
  readonly retentionMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

const EVERY_MS = 10 * 60_000;
/** Used and expired tokens stay visible for a day. */
const TOKENS_KEPT_MS = 86_400_000;
/** Changes that a stream can be resumed over. */
const CHANGES_KEPT = 100_000;
/** Most records that go in one transaction, and most transactions of one round. */
const RECORDS_AT_ONCE = 10_000;
const MAX_ROUNDS = 100;

/** Forgets, every ten minutes, what has ended. Servers of a cluster may all do it. */
export function startMaintenance(options: MaintenanceOptions): Running {
  let isStopped = false;
  let cancel: () => void = () => undefined;
  let running: Promise<void> = Promise.resolve();
  const schedule = (): void => {
    cancel = options.clock.schedule(EVERY_MS, () => {
      running = round();
    });
  };
  const round = async (): Promise<void> => {
    await forgetWhatEnded(options).catch((error: unknown) =>
      options.log.error('maintenance_failed', { error }),
    );
    if (!isStopped) schedule();
  };
  schedule();
  return {
    stop: async () => {
      isStopped = true;
      cancel();
      await running;
    },
  };
}

/** One round: certificates and tokens that have ended, changes that nobody resumes over, records beyond their retention. */
async function forgetWhatEnded(options: MaintenanceOptions): Promise<void> {
  const { datastore, issued, tokens, accessLog, clock, log, retentionMs } = options;
  const nowMs = clock.nowMs();
  const svids = await issued.prune();
  const joinTokens = await tokens.prune(nowMs - TOKENS_KEPT_MS);
  const changes = await pruneChangeLog(datastore, CHANGES_KEPT);
  let records = 0;
  for (let i = 0; i < MAX_ROUNDS; i++) {
    const pruned = await accessLog.prune(nowMs - retentionMs, RECORDS_AT_ONCE);
    records += pruned;
    if (pruned < RECORDS_AT_ONCE) break;
  }
  log.debug('maintenance_done', { svids, tokens: joinTokens, changes, records });
}
