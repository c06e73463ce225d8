import { z } from 'zod';
import { counter } from '../../shared/protocol/wire-values.ts';
import type { SyncPosition } from '../server-link/sync-state.ts';

/** How far a process has heard the server: what came up to there is in force in it. */
export const heardPosition: z.ZodType<SyncPosition> = z.object({
  epoch: z.string().max(64),
  cursor: counter,
});

/** Whether a process that has heard so far knows all that was said up to `position`. Positions of two epochs cannot be compared: false. */
export function hasHeard(heard: SyncPosition | undefined, position: SyncPosition): boolean {
  return heard?.epoch === position.epoch && heard.cursor >= position.cursor;
}
