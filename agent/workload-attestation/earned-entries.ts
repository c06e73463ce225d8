import type { Entry } from '../../shared/protocol/registration.ts';
import { areSelectorsEarned, type Selector } from '../../shared/spiffe/selector.ts';

/** What is said of processes outside of the host's own network namespace. */
export const NETNS = 'netns';

/**
 * The entries that a process with these selectors earns. Users and programs are the same in every network namespace, pods are not: whoever lives in another one than the
 * host's earns only entries that name it.
 */
export function earnedEntries(entries: Iterable<Entry>, present: ReadonlySet<Selector>): readonly Entry[] {
  const livesElsewhere = Array.from(present).some(isOfNamespace);
  return Array.from(entries).filter(
    ({ selectors }) =>
      areSelectorsEarned(selectors, present) && (!livesElsewhere || selectors.some(isOfNamespace)),
  );
}

function isOfNamespace(selector: Selector): boolean {
  return selector.startsWith(`${NETNS}:`);
}

/**
 * The entry that says all that each other one says and more; entries of one SPIFFE ID are as good as one. Undefined when no entry stands
 * above the others: which of two unrelated entries was meant cannot be told.
 */
export function mostSpecificEntry(entries: readonly Entry[]): Entry | undefined {
  return entries.find((entry) =>
    entries.every((other) => other.spiffeId === entry.spiffeId || isStricter(entry, other)),
  );
}

/** Best first: the most specific one, then by the number of selectors, the age, and the id, so that the order is always the same. */
export function inOrderOfPreference(entries: readonly Entry[]): readonly Entry[] {
  const best = mostSpecificEntry(entries);
  return entries.toSorted(
    (a, b) =>
      Number(b === best) - Number(a === best) ||
      selectorsOf(b).size - selectorsOf(a).size ||
      compare(a.createdAt, b.createdAt) ||
      compare(a.entryId, b.entryId),
  );
}

/** Whether some entry asks for a program's digest and for nothing else that is not in `known`. */
export function isDigestWanted(entries: Iterable<Entry>, known: readonly Selector[]): boolean {
  const present = new Set(known);
  return Array.from(entries).some(({ selectors }) => {
    // The attestor of programs knows nothing of namespaces.
    const missing = selectors.filter((selector) => !present.has(selector) && !isOfNamespace(selector));
    return missing.length > 0 && missing.every((selector) => selector.startsWith('unix:sha256:'));
  });
}

function isStricter(entry: Entry, other: Entry): boolean {
  const mine = selectorsOf(entry);
  const others = selectorsOf(other);
  return mine.size > others.size && mine.isSupersetOf(others);
}

function selectorsOf(entry: Entry): ReadonlySet<Selector> {
  return new Set(entry.selectors);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
