import type { Entry } from '../../shared/protocol/registration.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TcpSocket } from '../native/sock-diag-message.ts';
import { mostSpecificEntry } from './earned-entries.ts';
import { EFFECTIVE, type ProcessFacts } from './process-facts.ts';
import type { ProcessIdentity } from './process-identity.ts';

/** Processes of one socket that are looked at. Servers that fork a process a connection have some hundred. */
const MAX_HOLDERS = 512;

/** Why a process has no identity. */
export type Why = Unidentified['why'];
type Unidentified = Extract<ProcessIdentity, { kind: 'unidentified' }>;

/** A process that holds a socket. */
export interface HolderFacts {
  readonly inode: number;
  readonly facts: ProcessFacts;
}

/** A process that must earn the identity, and the entries that it earns. */
export interface EarningHolder {
  readonly facts: ProcessFacts;
  readonly entries: readonly Entry[];
}

/** Which processes must earn the identity, or why none can. */
export type Choice<T> =
  | { readonly kind: 'chosen'; readonly holders: readonly T[] }
  | { readonly kind: 'none'; readonly why: Why; readonly of: ProcessFacts | undefined };

/**
 * The processes that must earn the identity, each once. The user that made a socket must be among its holders, unless it is root, who hands sockets to its
 * services: otherwise a program that takes sockets from anybody, as a message bus does, would lend its identity to whoever sends it one
 * and fetches it back later.
 */
export function chooseHolders<T extends HolderFacts>(
  sockets: readonly TcpSocket[],
  found: readonly T[],
  { isMasterIgnored }: { readonly isMasterIgnored: boolean },
): Choice<T> {
  const chosen = new Map<number, T>();
  for (const { inode, uid } of sockets) {
    const holders = found.filter((holder) => holder.inode === inode);
    const [first] = holders;
    if (first === undefined) return { kind: 'none', why: 'no_holder', of: undefined };
    if (uid !== 0 && !holders.some(({ facts }) => facts.uids.includes(uid)))
      return { kind: 'none', why: 'holders_differ', of: first.facts };
    const others = holders.filter(({ facts }) => facts.uids[EFFECTIVE] !== 0);
    for (const holder of isMasterIgnored && others.length > 0 ? others : holders)
      chosen.set(holder.facts.pid, holder);
  }
  if (chosen.size > MAX_HOLDERS) return { kind: 'none', why: 'limit', of: undefined };
  return { kind: 'chosen', holders: [...chosen.values()] };
}

/** The one identity that every holder earns by its most specific entry. */
export function commonIdentity(holders: readonly EarningHolder[]): ProcessIdentity {
  const identities = holders.map(({ entries }) => mostSpecificEntry(entries)?.spiffeId);
  const [spiffeId] = identities;
  const [first] = holders;
  const mayBe = [...new Set(holders.flatMap(({ entries }) => entries.map((entry) => entry.spiffeId)))];
  if (identities.some((each) => each !== spiffeId))
    return { ...unidentified('holders_differ', first?.facts), mayBe };
  if (spiffeId !== undefined && first !== undefined)
    return { kind: 'identified', spiffeId, ...personOf(first.facts) };
  const isAmbiguous = holders.some(({ entries }) => entries.length > 0);
  return { ...unidentified(isAmbiguous ? 'ambiguous_entry' : 'no_entry', first?.facts), mayBe };
}

/** `expected`, if every holder earns it by some entry. */
export function expectedIdentity(holders: readonly EarningHolder[], expected: SpiffeId): ProcessIdentity {
  const earners = holders.filter(({ entries }) => entries.some(({ spiffeId }) => spiffeId === expected));
  const [first] = holders;
  if (first !== undefined && earners.length === holders.length)
    return { kind: 'identified', spiffeId: expected, ...personOf(first.facts) };
  return unidentified(earners.length === 0 ? 'no_entry' : 'holders_differ', first?.facts);
}

/** No identity, with the process that was looked at, where there is one. */
export function unidentified(why: Why, facts?: ProcessFacts): Unidentified {
  return { kind: 'unidentified', why, ...(facts === undefined ? NOBODY : personOf(facts)) };
}

const NOBODY = { pid: null, uid: null };

function personOf({ pid, uids }: ProcessFacts): { readonly pid: number; readonly uid: number | null } {
  return { pid, uid: uids[EFFECTIVE] ?? null };
}
