import { readlinkSync } from 'node:fs';
import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { WorkloadIdentity } from '../identity/identity.ts';
import { findTcpConnection, findTcpListeners } from '../native/sock-diag.ts';
import type { TcpSocket } from '../native/sock-diag-message.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { SocketHolder } from '../native/socket-holders.ts';
import { earnedEntries, inOrderOfPreference, mostSpecificEntry } from './earned-entries.ts';
import type { HolderFinder } from './holder-finder.ts';
import { EFFECTIVE, isUnchanged, readProcessFacts, type ProcessFacts } from './process-facts.ts';
import type { ProcessIdentifier, ProcessIdentity } from './process-identity.ts';
import { servingListeners } from './serving-listeners.ts';
import { SharedLooks } from './shared-looks.ts';
import { UserTurns } from './user-turns.ts';
import type { WorkloadAttestor } from './workload-attestor.ts';

/** What identification stands on. */
export interface ProcessIdentifierOptions {
  readonly identities: Watched<ReadonlyMap<string, WorkloadIdentity>>;
  readonly attestors: readonly WorkloadAttestor[];
  readonly finder: HolderFinder;
  readonly log: Log;
}

/** Processes of one socket that are looked at, some 0.2 ms each. Servers that fork a process a connection have some hundred. */
const MAX_HOLDERS = 512;
/** How often a socket is looked at again when its holders change under our eyes: a program that starts others does that all the time. */
const MAX_LOOKS = 3;

type Why = Extract<ProcessIdentity, { kind: 'unidentified' }>['why'];

/** A process that holds a socket, and what it earns. */
interface AttestedHolder {
  readonly facts: ProcessFacts;
  readonly entries: readonly Entry[];
}

/** A socket with all who hold it, none of whom has changed while they were looked at; or why there is no saying. */
type Look =
  | { readonly kind: 'seen'; readonly holders: readonly AttestedHolder[] }
  | { readonly kind: 'unseen'; readonly why: Why; readonly pid: number | null };

/**
 * Identifies processes by what the attestors say of them and by the entries that this host may serve. `identifyCaller` and `identifyListener` do not
 * reject: what cannot be told is `limit`, and logged.
 */
export function createProcessIdentifier(options: ProcessIdentifierOptions): ProcessIdentifier {
  return new Identifier(options);
}

/** A look takes some tens of milliseconds, and less than one of the event loop's for each connection. */
const CALLER_TURNS = { maxAtOnce: 128, maxWaiting: 4096 };

class Identifier implements ProcessIdentifier {
  readonly #options: ProcessIdentifierOptions;
  readonly #callerTurns = new UserTurns(CALLER_TURNS);
  readonly #listenerLooks = new SharedLooks<Look>();

  constructor(options: ProcessIdentifierOptions) {
    this.#options = options;
  }

  async identifyCaller(client: SocketAddress, destination: SocketAddress): Promise<ProcessIdentity> {
    const find = (): readonly TcpSocket[] => [findTcpConnection(client, destination) ?? []].flat();
    return await this.#identify('caller', async () => {
      const [socket] = find();
      if (socket === undefined) return unidentified(unseen('no_holder'));
      const look = await this.#callerTurns.run(socket.uid, async () => await this.#look(find));
      if (look === undefined) return unidentified(unseen('limit'));
      return look.kind === 'seen' ? commonIdentity(look.holders) : unidentified(look);
    });
  }

  async identifyListener(listener: SocketAddress, expected: SpiffeId): Promise<ProcessIdentity> {
    const find = (): readonly TcpSocket[] => servingListeners(listener, findTcpListeners(listener.port));
    return await this.#identify('listener', async () => {
      const look = await this.#listenerLooks.ask(
        `${listener.address} ${listener.port}`,
        async () => await this.#look(find, { isMasterIgnored: true }),
      );
      return look.kind === 'seen' ? expectedIdentity(look.holders, expected) : unidentified(look);
    });
  }

  async identitiesOf(pid: number): ReturnType<ProcessIdentifier['identitiesOf']> {
    const facts = readProcessFacts(pid);
    const holder = facts === undefined ? undefined : await this.#attest(facts);
    if (holder === undefined)
      throw new PicketError(
        'not_found',
        'process_gone',
        `Cannot attest process ${pid}: it has ended or changed`,
      );
    return {
      entryIds: inOrderOfPreference(holder.entries).map(({ entryId }) => entryId),
      isSame: () => isUnchanged(holder.facts),
    };
  }

  async #identify(
    what: 'caller' | 'listener',
    look: () => Promise<ProcessIdentity>,
  ): Promise<ProcessIdentity> {
    try {
      for (let looks = 1; ; looks++) {
        const identity = await look();
        const isChanged = identity.kind === 'unidentified' && identity.why === 'changed';
        if (!isChanged || looks === MAX_LOOKS) return identity;
      }
    } catch (cause) {
      this.#options.log.error('process_not_identified', { what, error: toPicketError(cause) });
      return { kind: 'unidentified', why: 'limit', pid: null };
    }
  }

  /**
   * Who holds the sockets that `find` gives. At the end the same sockets must be there, and each holder must be what it was and still have them
   * open. That looks at the holders found, not at all processes again: a process that joins them meanwhile was let in by one of them,
   * which it could do just as well a moment later.
   */
  async #look(find: () => readonly TcpSocket[], { isMasterIgnored = false } = {}): Promise<Look> {
    const sockets = find();
    if (sockets.length === 0 || sockets.some(({ inode }) => inode === 0)) return unseen('no_holder');
    const found = await this.#options.finder.find(sockets.map(({ inode }) => inode));
    const facts = factsOf(found);
    if (facts === undefined) return unseen('changed');
    const choice = chooseHolders(sockets, { found, facts, isMasterIgnored });
    if (choice.kind === 'unseen') return choice;
    const holders: AttestedHolder[] = [];
    for (const each of choice.facts) {
      const holder = await this.#attest(each);
      if (holder === undefined) return unseen('changed', each.pid);
      holders.push(holder);
    }
    const isSame =
      keyOf(sockets) === keyOf(find()) && found.every(isHolding) && [...facts.values()].every(isUnchanged);
    return isSame ? { kind: 'seen', holders } : unseen('changed', holders[0]?.facts.pid);
  }

  /** Undefined when the process has ended or changed. */
  async #attest(facts: ProcessFacts): Promise<AttestedHolder | undefined> {
    try {
      const all = await Promise.all(this.#options.attestors.map((attestor) => attestor.attest(facts)));
      if (!isUnchanged(facts)) return undefined;
      const entries = Array.from(this.#options.identities.current.values(), ({ entry }) => entry);
      return { facts, entries: earnedEntries(entries, new Set(all.flat())) };
    } catch (error) {
      if (toPicketError(error).reason === 'process_gone') return undefined;
      throw error;
    }
  }
}

/** Each holder once, by pid; undefined when one has ended meanwhile. */
function factsOf(found: readonly SocketHolder[]): ReadonlyMap<number, ProcessFacts> | undefined {
  const facts = new Map<number, ProcessFacts>();
  for (const { pid } of found) {
    const read = facts.get(pid) ?? readProcessFacts(pid);
    if (read === undefined) return undefined;
    facts.set(pid, read);
  }
  return facts;
}

/**
 * The processes that must earn the identity. The user that made a socket must be among its holders, unless it is root, who hands sockets to its
 * services: otherwise a program that takes sockets from anybody, as a message bus does, would lend its identity to whoever sends it one
 * and fetches it back later.
 */
function chooseHolders(
  sockets: readonly TcpSocket[],
  {
    found,
    facts,
    isMasterIgnored,
  }: {
    readonly found: readonly SocketHolder[];
    readonly facts: ReadonlyMap<number, ProcessFacts>;
    readonly isMasterIgnored: boolean;
  },
): { readonly kind: 'chosen'; readonly facts: ReadonlySet<ProcessFacts> } | (Look & { kind: 'unseen' }) {
  const chosen = new Set<ProcessFacts>();
  for (const { inode, uid } of sockets) {
    const holders = found.flatMap((each) => (each.inode === inode ? (facts.get(each.pid) ?? []) : []));
    const [first] = holders;
    if (first === undefined) return unseen('no_holder');
    if (uid !== 0 && !holders.some(({ uids }) => uids.includes(uid)))
      return unseen('holders_differ', first.pid);
    const others = holders.filter(({ uids }) => uids[EFFECTIVE] !== 0);
    for (const holder of isMasterIgnored && others.length > 0 ? others : holders) chosen.add(holder);
  }
  if (chosen.size > MAX_HOLDERS) return unseen('limit');
  return { kind: 'chosen', facts: chosen };
}

/** The one identity that every holder earns by its most specific entry. */
function commonIdentity(holders: readonly AttestedHolder[]): ProcessIdentity {
  const identities = holders.map(({ entries }) => mostSpecificEntry(entries)?.spiffeId);
  const [spiffeId] = identities;
  const pid = holders[0]?.facts.pid ?? null;
  if (identities.some((each) => each !== spiffeId))
    return { kind: 'unidentified', why: 'holders_differ', pid };
  if (spiffeId !== undefined && pid !== null) return { kind: 'identified', spiffeId, pid };
  const isAmbiguous = holders.some(({ entries }) => entries.length > 0);
  return { kind: 'unidentified', why: isAmbiguous ? 'ambiguous_entry' : 'no_entry', pid };
}

function expectedIdentity(holders: readonly AttestedHolder[], expected: SpiffeId): ProcessIdentity {
  const earners = holders.filter(({ entries }) => entries.some(({ spiffeId }) => spiffeId === expected));
  const pid = holders[0]?.facts.pid ?? null;
  if (pid !== null && earners.length === holders.length)
    return { kind: 'identified', spiffeId: expected, pid };
  return { kind: 'unidentified', why: earners.length === 0 ? 'no_entry' : 'holders_differ', pid };
}

function isHolding({ pid, fd, inode }: SocketHolder): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
  } catch {
    return false;
  }
}

function keyOf(sockets: readonly TcpSocket[]): string {
  return sockets
    .map(({ cookie, inode }) => `${cookie} ${inode}`)
    .toSorted()
    .join();
}

function unseen(why: Why, pid: number | null = null): Look & { readonly kind: 'unseen' } {
  return { kind: 'unseen', why, pid };
}

function unidentified({ why, pid }: Look & { readonly kind: 'unseen' }): ProcessIdentity {
  return { kind: 'unidentified', why, pid };
}
