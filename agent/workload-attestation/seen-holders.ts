import { readlinkSync } from 'node:fs';
import type { HolderScan, SocketHolder } from '../native/socket-holders.ts';
import type { SeenHolder, Sighting } from './holder-finder.ts';
import { readProcessFacts } from './process-facts.ts';

/**
 * What a scan says of each socket that was asked for. A holder without a stamp gets the fingerprint of its process, read now; it must hold the socket
 * still thereafter. So it held it when its facts were read: it held it before and after, at the same descriptor.
 */
export function sightingsOf(
  { holders, isComplete }: HolderScan,
  inodes: ReadonlySet<number>,
): ReadonlyMap<number, Sighting> {
  const stamps = new Map<number, string | undefined>();
  const stampOf = (pid: number): string | undefined => {
    if (!stamps.has(pid)) stamps.set(pid, readProcessFacts(pid)?.fingerprint);
    return stamps.get(pid);
  };
  const sightings = new Map<number, Sighting>();
  for (const inode of inodes) {
    const ofSocket = holders.filter((holder) => holder.inode === inode);
    sightings.set(inode, isComplete ? see(ofSocket, stampOf) : { kind: 'unseen', why: 'limit', pid: null });
  }
  return sightings;
}

function see(holders: readonly SocketHolder[], stampOf: (pid: number) => string | undefined): Sighting {
  const seen: SeenHolder[] = [];
  for (const holder of holders) {
    const stamp = holder.stamp ?? stampOf(holder.pid);
    const isHeld = stamp !== undefined && (holder.stamp !== undefined || isHolding(holder));
    if (!isHeld) return { kind: 'unseen', why: 'changed', pid: holder.pid };
    seen.push({ ...holder, stamp });
  }
  return { kind: 'seen', holders: seen };
}

function isHolding({ tid, fd, inode }: SocketHolder): boolean {
  try {
    return readlinkSync(`/proc/${tid}/fd/${fd}`) === `socket:[${inode}]`;
  } catch {
    return false;
  }
}
