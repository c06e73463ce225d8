import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { Entry } from '../../shared/protocol/registration.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { findTcpConnection } from '../native/sock-diag.ts';
import type { InNamespace } from '../native/network-namespace.ts';
import type { TcpSocket, UdpSocket } from '../native/sock-diag-message.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import { earnedEntries, inOrderOfPreference } from './earned-entries.ts';
import { commonIdentity, expectedIdentity, unidentified } from './holder-choice.ts';
import type { HolderFinder } from './holder-finder.ts';
import { KnownProcesses, readSelectors } from './known-processes.ts';
import { EFFECTIVE, isSameProgram, isUnchanged, readProcessFacts } from './process-facts.ts';
import type {
  ObservedProcess,
  ProcessIdentifier,
  ProcessIdentity,
  SenderIdentifier,
} from './process-identity.ts';
import { servingListeners } from './serving-listeners.ts';
import { SocketLooks } from './socket-looks.ts';
import { UserTurns } from './user-turns.ts';
import type { WorkloadAttestor } from './workload-attestor.ts';

/** What identification stands on. */
export interface ProcessIdentifierOptions {
  /** The entries of this host, by id, also those whose certificate is not there: without it their processes must not become somebody else, or nobody. */
  readonly entries: Watched<ReadonlyMap<string, Entry>>;
  readonly attestors: readonly WorkloadAttestor[];
  readonly finder: HolderFinder;
  readonly clock: Clock;
  readonly log: Log;
}

/** Of one user, as many connections are looked at at once as take a millisecond or two. */
const CALLER_TURNS = { maxAtOnce: 128, maxWaiting: 4096 };

/**
 * Identifies processes by what the attestors say of them and by the entries that this host may serve. `identifyCaller` and `identifyListener` do not
 * reject: what cannot be told is `limit`, and logged.
 */
export function createProcessIdentifier(
  options: ProcessIdentifierOptions,
): ProcessIdentifier & SenderIdentifier {
  return new Identifier(options);
}

class Identifier implements ProcessIdentifier, SenderIdentifier {
  readonly #options: ProcessIdentifierOptions;
  readonly #looks: SocketLooks;
  readonly #callerTurns = new UserTurns(CALLER_TURNS);
  #registered: { readonly entries: unknown; readonly ids: readonly SpiffeId[] } | undefined;
  readonly #earned = new WeakMap<ReadonlySet<Selector>, readonly Entry[]>();

  constructor(options: ProcessIdentifierOptions) {
    const { attestors, clock, finder, entries } = options;
    this.#options = options;
    const known = new KnownProcesses({ attestors, clock, registration: () => entries.current });
    this.#looks = new SocketLooks({
      finder,
      known,
      clock,
      earn: (selectors) => this.#earnedBy(selectors),
    });
  }

  async identifyCaller(
    client: SocketAddress,
    destination: SocketAddress,
    { admit = () => true, namespace }: { readonly admit?: (uid: number) => boolean } & InNamespace = {},
  ): Promise<ProcessIdentity> {
    const identity = await this.#identify('caller', async () => {
      const socket = findTcpConnection(client, destination, { namespace });
      if (socket === undefined) return unidentified('no_holder');
      if (!admit(socket.uid)) return unidentified('limit');
      return await this.#lookAt([socket], { namespace });
    });
    return this.#withAllThatItMayBe(identity);
  }

  async identifySender(sockets: readonly UdpSocket[], where: InNamespace = {}): Promise<ProcessIdentity> {
    const identity = await this.#identify('sender', async () => await this.#lookAt(sockets, where));
    return this.#withAllThatItMayBe(identity);
  }

  async identifyListener(
    listener: SocketAddress,
    expected: SpiffeId,
    { namespace }: InNamespace = {},
  ): Promise<ProcessIdentity> {
    return await this.#identify('listener', async () => {
      return await this.#looks.ask({
        find: (listenersAt) => servingListeners(listener, listenersAt(listener.port)),
        isMasterIgnored: true,
        namespace,
        decide: (holders) => expectedIdentity(holders, expected),
      });
    });
  }

  async identitiesOf(pid: number): ReturnType<ProcessIdentifier['identitiesOf']> {
    const facts = readProcessFacts(pid);
    const selectors = facts === undefined ? undefined : await readSelectors(this.#options.attestors, facts);
    if (facts === undefined || selectors === undefined || !isUnchanged(facts))
      throw new PicketError(
        'not_found',
        'process_gone',
        `Cannot attest process ${pid}: it has ended or changed`,
      );
    const earned = inOrderOfPreference(earnedEntries(this.#entries(), selectors));
    return {
      entryIds: earned.map(({ entryId }) => entryId),
      spiffeIds: earned.map(({ spiffeId }) => spiffeId),
      isSame: () => isUnchanged(facts),
    };
  }

  observe(pid: number): ObservedProcess | undefined {
    const facts = readProcessFacts(pid);
    const [uid, gid] = [facts?.uids[EFFECTIVE], facts?.gids[EFFECTIVE]];
    if (facts === undefined || uid === undefined || gid === undefined) return undefined;
    return { uid, gid, isSame: () => isSameProgram(facts) };
  }

  async #lookAt(sockets: readonly TcpSocket[], { namespace }: InNamespace): Promise<ProcessIdentity> {
    const [first] = sockets;
    if (first === undefined) return unidentified('no_holder');
    const look = async (): Promise<ProcessIdentity> =>
      await this.#looks.ask({
        // As long as somebody holds one, it is the same socket: it need not be found again.
        find: () => sockets,
        isMasterIgnored: false,
        namespace,
        decide: commonIdentity,
      });
    return (await this.#callerTurns.run(userOf(first, namespace), look)) ?? unidentified('limit');
  }

  #withAllThatItMayBe(identity: ProcessIdentity): ProcessIdentity {
    if (identity.kind === 'identified' || identity.mayBe !== undefined) return identity;
    return { ...identity, mayBe: this.#everybody() };
  }

  async #identify(
    what: 'caller' | 'sender' | 'listener',
    look: () => Promise<ProcessIdentity>,
  ): Promise<ProcessIdentity> {
    try {
      return await look();
    } catch (cause) {
      this.#options.log.error('process_not_identified', { what, error: toPicketError(cause) });
      return unidentified('limit');
    }
  }

  /** Once for each process: its selectors are read again when the registration changes. */
  #earnedBy(selectors: ReadonlySet<Selector>): readonly Entry[] {
    const known = this.#earned.get(selectors) ?? earnedEntries(this.#entries(), selectors);
    this.#earned.set(selectors, known);
    return known;
  }

  /** One list for all who ask until the registration changes: it may be long, and be kept with many connections. */
  #everybody(): readonly SpiffeId[] {
    const { current } = this.#options.entries;
    if (this.#registered?.entries !== current) {
      const ids = new Set(this.#entries().map(({ spiffeId }) => spiffeId));
      this.#registered = { entries: current, ids: [...ids] };
    }
    return this.#registered.ids;
  }

  #entries(): readonly Entry[] {
    return [...this.#options.entries.current.values()];
  }
}

/** Root of a pod is another one than the host's, and must not wait with him. */
function userOf({ uid }: TcpSocket, namespace: InNamespace['namespace']): string {
  return `${namespace?.cookie ?? 'host'} ${uid}`;
}
