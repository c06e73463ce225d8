import { PicketError } from '../../shared/errors/errors.ts';
import {
  tcpName,
  type ListeningSocket,
  type ListeningSockets,
  type SocketSource,
} from '../handover/listening-sockets.ts';
import { closeDescriptor } from '../native/dial.ts';
import { chooseListeners, type ChosenBy } from '../native/listener-choice.ts';
import { openTcpListener } from '../native/listening-socket.ts';
import type { InNamespace, NetworkNamespace } from '../native/network-namespace.ts';
import type { SocketAddress } from '../native/socket-address.ts';

/** An address that the data path listens on, and by what its connections are told apart. */
export interface SharedAddress extends SocketAddress {
  readonly by: ChosenBy;
}

/**
 * The listening sockets of all workers, held by the agent: connections wait in them while a worker is started again. None is ever closed while its address is served, for there may be
 * connections in it: where an earlier agent had more workers, each has several of them.
 */
export class WorkerSockets {
  readonly #groups: readonly SocketGroup[];
  readonly #workers: number;
  readonly #releases: (() => void)[] = [];
  #isClosed = false;

  /** Opens all but those that join others which an earlier agent handed on. Throws `unavailable`, reason `listen_failed`. */
  constructor(options: {
    readonly addresses: readonly SharedAddress[];
    readonly workers: number;
    readonly sockets: ListeningSockets;
  }) {
    const { addresses, workers, sockets } = options;
    const counts = addresses.map((at) => sockets.countInherited(at));
    requireFree(addresses.filter((_, i) => counts[i] === 0));
    this.#workers = workers;
    this.#groups = addresses.map((at, i) => {
      const inherited = counts[i] ?? 0;
      const group = new SocketGroup(at, { size: Math.max(workers, inherited), sockets });
      group.open(inherited === 0 ? workers : inherited);
      return group;
    });
  }

  /** Whether all that this worker listens on is open. What is not gets connections as soon as it is. */
  isOpen(worker: number): boolean {
    return this.#groups.every((group) => group.openSockets.length > worker);
  }

  /** Opens what is not open yet; nothing once closed. Throws `unavailable`, reason `listen_failed`. */
  openAll(): void {
    if (this.#isClosed) return;
    for (const group of this.#groups) group.open(group.size);
  }

  /** Of one worker, in the order in which it gets them. */
  of(worker: number): { readonly names: readonly string[]; readonly descriptors: readonly number[] } {
    if (!this.isOpen(worker)) throw new RangeError(`There is no worker ${worker} yet`);
    const own = this.#groups.flatMap((group) =>
      group.openSockets
        .filter((_, index) => index % this.#workers === worker)
        .map(({ fd }) => ({ name: tcpName(group.at), fd })),
    );
    return { names: own.map(({ name }) => name), descriptors: own.map(({ fd }) => fd) };
  }

  /**
   * Has connections of one origin go to one worker, once all are open. Throws as `chooseListeners`; connections then spread over all workers, which costs only that
   * pools, tickets and verdicts are kept in several of them. Also where the agent before this one still chooses. Nothing once closed.
   */
  choose(): void {
    if (this.#isClosed) return;
    try {
      for (const group of this.#groups) {
        const fds = group.openSockets.map(({ fd }) => fd);
        this.#releases.push(chooseListeners(fds, group.at.by));
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Nothing is chosen any more, by this process. */
  release(): void {
    for (const release of this.#releases.splice(0)) release();
  }

  /** This process listens no more, for good; those that share the sockets do. */
  close(): void {
    this.#isClosed = true;
    this.release();
    for (const group of this.#groups) group.close();
  }
}

/** The sockets at one address. */
class SocketGroup {
  readonly at: SharedAddress;
  /** How many there are to be. */
  readonly size: number;
  readonly openSockets: ListeningSocket[] = [];
  readonly #sockets: ListeningSockets;

  constructor(
    at: SharedAddress,
    { size, sockets }: { readonly size: number; readonly sockets: ListeningSockets },
  ) {
    this.at = at;
    this.size = size;
    this.#sockets = sockets;
  }

  /** As many as that are open then. */
  open(count: number): void {
    while (this.openSockets.length < Math.min(count, this.size))
      this.openSockets.push(this.#sockets.sharedTcp(this.at, this.openSockets.length));
  }

  close(): void {
    for (const socket of this.openSockets.splice(0)) {
      closeDescriptor(socket.fd);
      socket.closed();
    }
  }
}

/** Throws `unavailable`, reason `listen_failed`, where somebody listens already: a port that is shared would let us join him. */
export function requireFree(addresses: readonly SocketAddress[]): void {
  for (const at of addresses) closeDescriptor(openTcpListener(at));
}

/** The sockets that a worker was started with, the first of them as descriptor 3. */
export class GivenSockets implements SocketSource {
  readonly #names: readonly string[];
  /** Those in other namespaces, by the cookies of these, until somebody listens there. */
  readonly #within = new Map<bigint, readonly number[]>();

  constructor(names: readonly string[]) {
    this.#names = names;
  }

  /** Behind all of these: by which the worker gets others. */
  get way(): number {
    return FIRST_DESCRIPTOR + this.#names.length;
  }

  /** Takes those in another namespace, which it got later. */
  give({ cookie }: NetworkNamespace, descriptors: readonly number[]): void {
    this.#within.set(cookie, descriptors);
  }

  /** Closes those in another namespace, unless somebody listens there. */
  drop(namespace: NetworkNamespace): void {
    for (const fd of this.#takeWithin(namespace)) closeDescriptor(fd);
  }

  tcp(at: SocketAddress, { namespace }: InNamespace = {}): readonly ListeningSocket[] {
    const name = tcpName(at);
    const given = namespace === undefined ? this.#given(name) : this.#takeWithin(namespace);
    if (given.length === 0) throw notGiven(name);
    return given.map((fd) => ({ fd, port: at.port, closed: () => undefined }));
  }

  #takeWithin({ cookie }: NetworkNamespace): readonly number[] {
    const given = this.#within.get(cookie) ?? [];
    this.#within.delete(cookie);
    return given;
  }

  #given(name: string): readonly number[] {
    return this.#names.flatMap((each, index) => (each === name ? [FIRST_DESCRIPTOR + index] : []));
  }

  async unix(path: string): Promise<ListeningSocket> {
    return await Promise.reject(notGiven(`unix ${path}`));
  }
}

/** Behind standard input, output and error. */
const FIRST_DESCRIPTOR = 3;

function notGiven(name: string): PicketError {
  return new PicketError('unavailable', 'listen_failed', `This worker was given no socket ${name}`);
}
