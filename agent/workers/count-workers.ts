import { availableParallelism } from 'node:os';
import { PicketError } from '../../shared/errors/errors.ts';
import type { AgentConfig } from '../config/config.ts';
import { decidesDatagrams } from '../config/decides-datagrams.ts';

/** What says how many processes write records. */
export interface LaneSettings extends Pick<AgentConfig, 'proxy'> {
  readonly audit: Pick<AgentConfig['audit'], 'maxBytes'>;
  readonly egress: Pick<AgentConfig['egress'], 'decidesUdp'>;
  readonly capture: Pick<AgentConfig['capture'], 'isEnabled'>;
}

/** Beyond that, places and spool would be cut too small. */
export const MAX_WORKERS = 64;
/** What a lane of the spool needs at least: segments and the reserve for a full disk. */
const MIN_LANE_BYTES = 16 * 1024 * 1024;

/**
 * How many workers the data path has; 1: it runs in the agent itself. Throws `invalid_argument`, reason `config_invalid`, where the spool of the configuration is too small to be
 * divided among so many.
 */
export function countWorkers(config: LaneSettings): number {
  const count = wantedWorkers(config);
  const lanes = countLanes(config);
  if (lanes * MIN_LANE_BYTES <= config.audit.maxBytes) return count;
  throw new PicketError(
    'invalid_argument',
    'config_invalid',
    `audit.max_bytes must be at least ${lanes * MIN_LANE_BYTES}: 16 MiB for each of ${count} workers${lanes > count ? ', and for UDP' : ''}`,
  );
}

/** Among how many the spool is divided: the workers, and behind them the agent itself where it decides on UDP beside them. */
export function countLanes(config: LaneSettings): number {
  const workers = wantedWorkers(config);
  return workers > 1 && decidesDatagrams(config) ? workers + 1 : workers;
}

function wantedWorkers({ proxy: { workers } }: Pick<AgentConfig, 'proxy'>): number {
  return workers === 'auto' ? Math.min(MAX_WORKERS, availableParallelism()) : workers;
}
