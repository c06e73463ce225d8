import type { Entry } from '../../shared/protocol/registration.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import { findTcpListeners } from '../native/sock-diag.ts';
import type { InNamespace, NetworkNamespace } from '../native/network-namespace.ts';
import type { TcpSocket } from '../native/sock-diag-message.ts';
import { chooseHolders, unidentified, type EarningHolder, type HolderFacts } from './holder-choice.ts';
import type { HolderFinder, Sighting } from './holder-finder.ts';
import type { KnownProcess, KnownProcesses } from './known-processes.ts';
import type { ProcessFacts } from './process-facts.ts';
import type { ProcessIdentity } from './process-identity.ts';

/** Whose sockets they are, which are of one network namespace. */
export interface SocketQuestion extends InNamespace {
  /** The sockets that it is about, with all that listen at a port. */
  readonly find: (listenersAt: (port: number) => readonly TcpSocket[]) => readonly TcpSocket[];
  /** Whether root counts only where nobody else holds a socket. */
  readonly isMasterIgnored: boolean;
  /** What those who hold them have earned together. */
  readonly decide: (holders: readonly EarningHolder[]) => ProcessIdentity;
}

export interface SocketLooksOptions {
  readonly finder: HolderFinder;
  readonly known: KnownProcesses;
  /** The entries that a process with these selectors earns. */
  readonly earn: (selectors: ReadonlySet<Selector>) => readonly Entry[];
  readonly clock: Clock;
}

/**
 * How often a socket is looked at: once more than what is to be read of its holders, and again when they change under our eyes. A program that starts
 * others does that all the time.
 */
const MAX_LOOKS = 5;
/** Holders of one socket of which more than the number is asked; some 50 us each. */
const MAX_SEEN = 1_024;
/** Questions that wait for the next look. */
const MAX_WAITING = 8_192;
/** Looking for holders may go on at once when it took no longer. */
const SHORT_MS = 0.2;
/** After longer, the agent does three times as long something else: what is asked meanwhile shares the next look. */
const REST = 3;

interface Waiting extends SocketQuestion {
  readonly resolve: (identity: ProcessIdentity) => void;
  readonly reject: (cause: unknown) => void;
  looks: number;
  /** What was seen of its sockets in the look before. */
  known: ReadonlyMap<number, Sighting>;
}

type Sockets = ReadonlyMap<Waiting, readonly TcpSocket[]>;

/** One look at the sockets of many questions. */
interface Look {
  readonly number: number;
  readonly sightings: ReadonlyMap<number, Sighting>;
}

interface Holder extends HolderFacts {
  readonly stamp: string;
  readonly known: KnownProcess;
}

/** What a look says of a question: an answer, or what has to be read before the next look can say more. */
type Judgement =
  | { readonly kind: 'answer'; readonly identity: ProcessIdentity }
  | { readonly kind: 'again'; readonly unread: readonly string[]; readonly seen: ProcessIdentity };

/**
 * Looks at sockets and at who holds them. All that is asked within one turn of the event loop shares one look: the sockets are found, then all who hold
 * them, each with a stamp that says what it is at that moment. Only such a look answers, and only if all that there is to know of each
 * stamp was read before it: so every answer is of one moment, at which these processes, being what was read of them, held the socket.
 * What is not known is read after the look, and then is looked again.
 */
export class SocketLooks {
  readonly #options: SocketLooksOptions;
  #waiting: Waiting[] = [];
  #restsUntilMs = 0;

  constructor(options: SocketLooksOptions) {
    this.#options = options;
  }

  /** Rejects where sockets or holders cannot be found at all, and like `WorkloadAttestor.attest`. */
  async ask(question: SocketQuestion): Promise<ProcessIdentity> {
    return await new Promise((resolve, reject) => {
      this.#enqueue({ ...question, resolve, reject, looks: 0, known: new Map() });
    });
  }

  #enqueue(question: Waiting): void {
    if (this.#waiting.length >= MAX_WAITING) return question.resolve(unidentified('limit'));
    if (this.#waiting.push(question) > 1) return;
    const { clock } = this.#options;
    const restMs = this.#restsUntilMs - clock.monotonicMs();
    const look = (): void => void this.#look();
    if (restMs > 0) clock.schedule(restMs, look);
    else setImmediate(look);
  }

  async #look(): Promise<void> {
    const questions = this.#waiting;
    this.#waiting = [];
    const number = this.#options.known.beginLook();
    const sockets = findSockets(questions);
    if (sockets.size === 0) return;
    try {
      const sightings = await this.#findHolders(sockets);
      for (const [question, ofQuestion] of sockets) this.#answer(question, ofQuestion, { number, sightings });
    } catch (cause) {
      for (const question of sockets.keys()) question.reject(cause);
    }
  }

  async #findHolders(sockets: Sockets): Promise<Look['sightings']> {
    const { clock, finder } = this.#options;
    const inodes = new Set([...sockets.values()].flat().map(({ inode }) => inode));
    const startMs = clock.monotonicMs();
    const finding = finder.find(inodes, knownBefore(sockets));
    const tookMs = clock.monotonicMs() - startMs;
    if (tookMs > SHORT_MS) this.#restsUntilMs = startMs + (1 + REST) * tookMs;
    return await finding;
  }

  #answer(question: Waiting, sockets: readonly TcpSocket[], look: Look): void {
    try {
      const judgement = this.#judge(question, sockets, look);
      if (judgement.kind === 'answer') question.resolve(judgement.identity);
      else if (++question.looks >= MAX_LOOKS) question.resolve(judgement.seen);
      else {
        question.known = new Map(sockets.flatMap(({ inode }) => entryOf(look.sightings, inode)));
        this.#askAgain(question, judgement.unread);
      }
    } catch (cause) {
      question.reject(cause);
    }
  }

  #askAgain(question: Waiting, unread: readonly string[]): void {
    const { known } = this.#options;
    Promise.all(unread.map(async (stamp) => await known.readSelectors(stamp))).then(
      () => this.#enqueue(question),
      question.reject,
    );
  }

  #judge(question: Waiting, sockets: readonly TcpSocket[], look: Look): Judgement {
    const { finder, known: processes } = this.#options;
    // Where looking took a while, others may be there by now.
    if (
      !finder.isImmediate &&
      keyOf(question.find((port) => findTcpListeners(port, question))) !== keyOf(sockets)
    )
      return again(changed(null));
    const holders: Holder[] = [];
    for (const { inode } of sockets) {
      const sighting = look.sightings.get(inode);
      if (sighting?.kind !== 'seen') return judgementOfUnseen(sighting);
      if (sighting.holders.length > MAX_SEEN) return { kind: 'answer', identity: unidentified('limit') };
      for (const { pid, stamp } of sighting.holders) {
        const known = processes.findOrRead(pid, stamp);
        if (known === undefined) return again(changed(pid));
        holders.push({ inode, stamp, known, facts: known.facts });
      }
    }
    return this.#judgeHolders(question, { sockets, holders, look });
  }

  #judgeHolders(
    question: Waiting,
    seen: {
      readonly sockets: readonly TcpSocket[];
      readonly holders: readonly Holder[];
      readonly look: Look;
    },
  ): Judgement {
    const { sockets, holders, look } = seen;
    const choice = chooseHolders(sockets, holders, question);
    const isCertain = holders.every(({ known }) => known.looks < look.number);
    if (choice.kind === 'none') {
      const identity = unidentified(choice.why, choice.of);
      return isCertain ? { kind: 'answer', identity } : again(identity);
    }
    const unread = choice.holders.filter(({ known }) => known.selectors === undefined);
    if (!isCertain || unread.length > 0) {
      const stamps = unread.map(({ stamp }) => stamp);
      return again(unidentified('changed', choice.holders[0]?.facts), stamps);
    }
    const stranger = choice.holders.find(({ facts }) => !livesIn(facts, question));
    if (stranger !== undefined)
      return { kind: 'answer', identity: unidentified('holders_differ', stranger.facts) };
    const earning = choice.holders.map(({ facts, known }) => ({
      facts,
      entries: this.#options.earn(known.selectors ?? new Set()),
    }));
    return { kind: 'answer', identity: question.decide(earning) };
  }
}

/** The sockets of each question that has any; the others are answered. */
function findSockets(questions: readonly Waiting[]): Sockets {
  const found = new Map<Waiting, readonly TcpSocket[]>();
  const listeners = new Map<NetworkNamespace | undefined, Map<number, readonly TcpSocket[]>>();
  const listenersAt = (port: number, { namespace }: InNamespace): readonly TcpSocket[] => {
    const there = listeners.get(namespace) ?? new Map<number, readonly TcpSocket[]>();
    listeners.set(namespace, there);
    const known = there.get(port) ?? findTcpListeners(port, { namespace });
    there.set(port, known);
    return known;
  };
  for (const question of questions) {
    try {
      const sockets = question.find((port) => listenersAt(port, question));
      if (sockets.length === 0 || sockets.some(({ inode }) => inode === 0))
        question.resolve(unidentified('no_holder'));
      else found.set(question, sockets);
    } catch (cause) {
      question.reject(cause);
    }
  }
  return found;
}

/** A socket that was carried out of its namespace proves nothing of who lives there. */
function livesIn({ networkNamespace }: ProcessFacts, { namespace }: InNamespace): boolean {
  return namespace === undefined || networkNamespace === namespace.link;
}

/** What was seen a moment ago of sockets, unless somebody asks for one of them only now. */
function knownBefore(sockets: Sockets): ReadonlyMap<number, Sighting> {
  const known = new Map<number, Sighting>();
  for (const question of sockets.keys())
    for (const [inode, sighting] of question.known) known.set(inode, sighting);
  for (const [question, ofQuestion] of sockets)
    for (const { inode } of ofQuestion) if (!question.known.has(inode)) known.delete(inode);
  return known;
}

function keyOf(sockets: readonly TcpSocket[]): string {
  return sockets
    .map(({ cookie, inode }) => `${cookie} ${inode}`)
    .toSorted()
    .join();
}

function entryOf<K, V>(map: ReadonlyMap<K, V>, key: K): readonly (readonly [K, V])[] {
  const value = map.get(key);
  return value === undefined ? [] : [[key, value]];
}

function judgementOfUnseen(sighting: Exclude<Sighting, { kind: 'seen' }> | undefined): Judgement {
  if (sighting?.why === 'limit') return { kind: 'answer', identity: unidentified('limit') };
  return again(changed(sighting?.pid ?? null));
}

function changed(pid: number | null): ProcessIdentity {
  return { kind: 'unidentified', why: 'changed', pid, uid: null };
}

function again(seen: ProcessIdentity, unread: readonly string[] = []): Judgement {
  return { kind: 'again', unread, seen };
}
