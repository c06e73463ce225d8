import { PicketError, toPicketError } from '../../shared/errors/errors.ts';
import type { OwnAddresses } from '../directory/own-addresses.ts';
import type { NamespaceSettings } from '../namespaces/namespace-source.ts';
import { Namespaces } from '../namespaces/namespaces.ts';
import { receiveDescriptors } from '../native/descriptor-passing.ts';
import { closeDescriptor } from '../native/dial.ts';
import { NetworkNamespace } from '../native/network-namespace.ts';
import type { HostProxy } from '../proxy/proxy.ts';
import type { ToWorker } from './worker-messages.ts';
import { keyOf } from './worker-namespaces.ts';
import type { GivenSockets } from './worker-sockets.ts';

export interface ToldNamespacesOptions {
  readonly settings: NamespaceSettings;
  /** Where descriptors come from the agent. */
  readonly way: number;
  readonly sockets: GivenSockets;
  readonly addresses: OwnAddresses;
  /** One cannot be served: it is closed, as far as this worker goes, and the agent is to give it again. */
  readonly onFailed: (cookie: string, error: PicketError) => void;
}

/** One that the worker serves. */
interface Served {
  readonly namespace: NetworkNamespace;
  /** Undefined before connections may be taken. */
  listener: Listener | undefined;
}

type Listener = ReturnType<HostProxy['listenIn']>;

/** What a worker is told of other namespaces of its host: which are captured, and what leads to them. */
export class ToldNamespaces {
  /** As everything in the worker asks for them. */
  readonly namespaces: Namespaces;
  readonly #options: ToldNamespacesOptions;
  readonly #served = new Map<string, Served>();
  #proxy: Pick<HostProxy, 'listenIn'> | undefined;
  #routed: ReadonlyMap<string, { readonly cookie: bigint }> = new Map();

  constructor(options: ToldNamespacesOptions) {
    const { settings, addresses } = options;
    this.#options = options;
    this.namespaces = new Namespaces({
      source: { list: () => settings.named },
      routedIn: settings.patterns.flatMap(({ routedIn }) => routedIn),
      findRouted: () => this.#routed,
      isOwnAddress: (address) => addresses.has(address),
    });
  }

  /** Takes a namespace, whose descriptors wait by now, and listens in it once that may be; what fails costs this one alone. Throws `unavailable` where what waits is not what the agent says: all that comes behind it is not either. */
  add(told: Extract<ToWorker, { kind: 'namespace' }>): void {
    this.#orFail(told.cookie, () => {
      const namespace = this.#take(told);
      if (namespace === undefined) return;
      this.#served.set(told.cookie, { namespace, listener: undefined });
      this.#listenIn(told.cookie);
      this.namespaces.add(namespace, told.declared);
    });
  }

  /** Takes connections in all that there are, and in others as they come. Called once. Never throws. */
  listen(proxy: Pick<HostProxy, 'listenIn'>): void {
    this.#proxy = proxy;
    for (const cookie of Array.from(this.#served.keys())) this.#orFail(cookie, () => this.#listenIn(cookie));
  }

  remove(cookie: string): void {
    const served = this.#served.get(cookie);
    if (served === undefined) return;
    this.#served.delete(cookie);
    served.namespace.retire();
    this.namespaces.remove(served.namespace);
    served.listener?.stop();
    this.#options.sockets.drop(served.namespace);
    served.namespace[Symbol.dispose]();
  }

  /** Undefined for what is served already, which goes on. */
  #take({ cookie, declared }: Extract<ToWorker, { kind: 'namespace' }>): NetworkNamespace | undefined {
    const { way, sockets } = this.#options;
    const [fd, ...listeners] = receiveDescriptors(way);
    let namespace: NetworkNamespace | undefined;
    try {
      namespace = NetworkNamespace.adopt(declared.name, fd ?? -1);
      if (keyOf(namespace) !== cookie) throw new AnotherNamespace(cookie);
    } catch (error) {
      namespace?.[Symbol.dispose]();
      for (const each of listeners) closeDescriptor(each);
      throw error;
    }
    if (this.#served.has(cookie)) {
      namespace[Symbol.dispose]();
      for (const each of listeners) closeDescriptor(each);
      return undefined;
    }
    sockets.give(namespace, listeners);
    return namespace;
  }

  #listenIn(cookie: string): void {
    const served = this.#served.get(cookie);
    if (served !== undefined) served.listener = this.#proxy?.listenIn(served.namespace);
  }

  #orFail(cookie: string, work: () => void): void {
    try {
      work();
    } catch (cause) {
      const error = toPicketError(cause);
      if (cause instanceof AnotherNamespace || isNothingThere(error)) throw error;
      this.remove(cookie);
      this.#options.onFailed(cookie, error);
    }
  }

  /** Takes what leads where, whole. */
  route(routed: Extract<ToWorker, { kind: 'routes' }>['routed']): void {
    this.#routed = new Map(routed.map(([address, cookie]) => [address, { cookie: BigInt(cookie) }]));
    this.namespaces.followRoutes();
  }
}

/** What the agent says and what it gives are not in step any more. */
class AnotherNamespace extends PicketError {
  constructor(cookie: string) {
    super('unavailable', 'network_namespace', `The agent gave another namespace than ${cookie}`);
  }
}

function isNothingThere({ code, reason }: PicketError): boolean {
  return code === 'unavailable' && reason === 'descriptor_passing';
}
