import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { startShipper, type ShipperOptions } from '../audit/shipper.ts';
import { openSpoolPlace, type HeldSpool } from '../audit/spool-place.ts';

const LANE = /^lane-(\d{1,3})$/;

/**
 * Where a worker keeps its records: a spool of its own, with its own epoch and chain, which its successor goes on with. The first worker has the spool that an agent without workers
 * has.
 */
export function laneDirectory(directory: string, worker: number): string {
  return worker === 0 ? directory : join(directory, `lane-${worker}`);
}

/** Folders of lanes that there were once, and are not any more. */
export function findLeftOverLanes(directory: string, lanes: number): readonly string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => Number(LANE.exec(name)?.[1] ?? -1) >= lanes)
    .map((name) => join(directory, name));
}

/** Ships what workers left that there are no more, and removes their folders once the server has all of it. */
export function shipLeftOverLanes(options: {
  readonly directory: string;
  readonly lanes: number;
  readonly maxBytes: number;
  readonly send: ShipperOptions['send'];
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}): Running {
  const { maxBytes, send, clock, random, log } = options;
  const leftOver = findLeftOverLanes(options.directory, options.lanes).map((directory) => {
    const held = openSpoolPlace(directory, { maxBytes, durability: 'group', clock, log });
    const { spool } = held;
    const lane = { held, directory, isDone: false };
    const sendAndLook: ShipperOptions['send'] = async (batch) => {
      const answer = await send(batch);
      // The shipper takes the answer first.
      clock.schedule(0, () => removeIfShipped(lane, log));
      return answer;
    };
    const shipper = startShipper({ spool, send: sendAndLook, clock, random, log });
    removeIfShipped(lane, log);
    return { lane, shipper };
  });
  return {
    stop: async () => {
      for (const { lane, shipper } of leftOver) {
        await shipper.stop();
        if (!lane.isDone) await lane.held.close();
      }
    },
  };
}

interface Lane {
  readonly held: HeldSpool;
  readonly directory: string;
  isDone: boolean;
}

function removeIfShipped(lane: Lane, log: Log): void {
  const { held, directory } = lane;
  if (lane.isDone || held.spool.status.depth > 0) return;
  lane.isDone = true;
  void held.close({ isEmpty: true });
  log.info('audit_lane_shipped', { directory });
}
