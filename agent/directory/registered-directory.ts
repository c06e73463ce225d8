import type { Entry, Listener } from '../../shared/protocol/registration.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { Namespaces, NamespacesChange } from '../namespaces/namespaces.ts';
import type { InNamespace, NetworkNamespace } from '../native/network-namespace.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { PlaceRecord, ServiceRecord } from '../../shared/protocol/service.ts';
import type { Directory, DirectoryAnswer, ServedProtocol } from './directory.ts';
import type { HbonePeers } from './hbone-peers.ts';
import { buildServices, reachableFrom, type FoundService } from './service-index.ts';
import { canonicalAddress, isLoopback } from './host-address.ts';

export interface RegisteredDirectoryOptions {
  /** What the server says of all hosts; addresses in their canonical spelling. */
  readonly records: Watched<ReadonlyMap<string, DirectoryRecord>>;
  /** The entries of this host's agent, by id. */
  readonly entries: Watched<ReadonlyMap<string, Entry>>;
  /** Workloads of other meshes. What is registered goes before them. */
  readonly hbonePeers: HbonePeers;
  /** Services in several places, by name, and where hosts are, by the SPIFFE ID of their agent; addresses in canonical spelling. */
  readonly services: Watched<ReadonlyMap<string, ServiceRecord>>;
  readonly places: Watched<ReadonlyMap<string, PlaceRecord>>;
  /** The SPIFFE ID of this host's agent; undefined while it is not known. */
  readonly ownNode: () => SpiffeId | undefined;
  /** Whether an address in canonical spelling is one of this host's own. Asked for each connection. */
  readonly isOwnAddress: (address: string) => boolean;
  /** Namespaces of this host that are captured beside its own. */
  readonly namespaces?: Pick<Namespaces, 'findAt' | 'addressesOf' | 'watch'>;
  readonly log: Log;
}

/** What stands at an address, made once for each change. `null`: two records contradict each other. */
interface Index {
  readonly byEndpoint: ReadonlyMap<string, DirectoryRecord | null>;
  readonly addresses: ReadonlySet<string>;
  /** By the addresses that lead to them; `null`: an address leads to two, or is a host's own. */
  readonly serviceAt: ReadonlyMap<string, FoundService | null>;
  readonly services: readonly FoundService[];
  readonly gateways: ReadonlyMap<SpiffeId, readonly SocketAddress[]>;
  /** By port, and address where one is named; `null`: two identities, or two protocols, claim it. */
  readonly listeners: ReadonlyMap<string, LocalListener | null>;
}

interface LocalListener extends Listener {
  readonly spiffeId: SpiffeId;
}

/** The directory as registration has it. What stands in it twice in different ways answers nobody. */
export class RegisteredDirectory implements Directory {
  readonly #options: RegisteredDirectoryOptions;
  readonly #listeners = new Set<() => void>();
  readonly #unwatch: readonly (() => void)[];
  #index: Index;

  constructor(options: RegisteredDirectoryOptions) {
    this.#options = options;
    this.#index = this.#build();
    const changed = (): void => this.#changed();
    const { records, entries, services, places, namespaces } = options;
    this.#unwatch = [
      ...[records, entries, services, places].map((each) => each.watch(changed)),
      ...(namespaces === undefined ? [] : [namespaces.watch((change) => this.#namespacesChanged(change))]),
    ];
  }

  find(destination: SocketAddress, { namespace }: InNamespace = {}): DirectoryAnswer {
    const address = canonicalAddress(destination.address) ?? destination.address;
    const { port } = destination;
    if (isLoopback(address)) return this.#findOwn({ address, port }, namespace);
    // Who may be reached at an address of this host, its configuration says: other hosts are told by the server alone.
    const there = this.#options.namespaces?.findAt(address);
    if (there?.kind === 'closed') return { kind: 'unregistered' };
    if (there !== undefined) return this.#findOwn({ address, port }, there.namespace);
    if (this.#options.isOwnAddress(address)) return this.#findOwn({ address, port }, undefined);
    const service = this.#index.serviceAt.get(endpointOf(address, port));
    if (service === null) return { kind: 'unregistered' };
    if (service !== undefined) return { kind: 'service', ...service };
    const record = this.#index.byEndpoint.get(endpointOf(address, port));
    const protocol = servedProtocolOf(record ?? undefined);
    if (record !== undefined && record !== null && protocol !== undefined)
      return { kind: 'remote', spiffeId: record.spiffeId, protocol };
    // An address that is once in the mesh is never spoken to in plaintext.
    return this.#index.addresses.has(address) ? { kind: 'unregistered' } : this.#findBeyond(address, port);
  }

  services(): readonly FoundService[] {
    return this.#index.services;
  }

  localPorts({ namespace }: InNamespace = {}): readonly number[] {
    return this.#portsOf(namespace, (listener) => listener?.protocol !== 'egress');
  }

  transparentPorts(): readonly number[] {
    return this.#portsOf(
      undefined,
      (listener) => listener?.transparent === true && listener.protocol !== 'egress',
    );
  }

  isHere(address: string): boolean {
    return this.#options.isOwnAddress(address) || this.#isElsewhere(address);
  }

  #portsOf(
    namespace: NetworkNamespace | undefined,
    isMeant: (listener: LocalListener | null) => boolean,
  ): readonly number[] {
    const named = new Set(this.#addressesNamed(namespace));
    const isHere = (address: string): boolean =>
      address === '' || named.has(address) || (namespace === undefined && !this.#isElsewhere(address));
    const ports = Array.from(this.#index.listeners)
      .filter(([, listener]) => isMeant(listener))
      .map(([key]) => parseKey(key))
      .filter(({ address }) => isHere(address))
      .map(({ port }) => port);
    return [...new Set(ports)].toSorted((a, b) => a - b);
  }

  findGateways(gateway: SpiffeId): readonly SocketAddress[] {
    return (this.#index.gateways.get(gateway) ?? []).filter(
      ({ address }) => !this.#options.isOwnAddress(address) && !this.#isElsewhere(address),
    );
  }

  isGateway(gateway: SpiffeId, meshPort: number): boolean {
    return ['', ...this.#addressesNamed(undefined)].some((address) => {
      const listener = this.#index.listeners.get(keyOf(meshPort, address));
      return listener?.spiffeId === gateway && listener.protocol === 'egress';
    });
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Follows no more changes. */
  stop(): void {
    for (const unwatch of this.#unwatch) unwatch();
  }

  #findBeyond(address: string, port: number): DirectoryAnswer {
    const spiffeId = this.#options.hbonePeers.find(address, port);
    if (spiffeId === undefined) return { kind: 'outside' };
    if (spiffeId === 'unnamed') return { kind: 'unregistered' };
    return { kind: 'remote', spiffeId, protocol: 'auto', transport: 'hbone' };
  }

  /** A listener that is registered for an address goes before one for all; on loopback, those for the addresses of the namespace do. */
  #findOwn({ address, port }: SocketAddress, namespace: NetworkNamespace | undefined): DirectoryAnswer {
    const addresses = isLoopback(address) ? this.#addressesNamed(namespace) : [address];
    const named = addresses.map((each) => this.#index.listeners.get(keyOf(port, each)));
    const found = named.find((listener) => listener !== undefined) ?? this.#index.listeners.get(keyOf(port));
    // Two of them behind one loopback address: which one is meant cannot be told.
    const isClear = named.every((listener) => listener === undefined || isSame(listener, found));
    const protocol = servedProtocolOf(found ?? undefined);
    if (found === undefined || found === null || protocol === undefined || !isClear)
      return { kind: 'unregistered' };
    const { spiffeId, proxyProtocol, transparent } = found;
    const asked = {
      ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
      ...(transparent === undefined ? {} : { transparent }),
    };
    const within = namespace === undefined ? {} : { namespace };
    return { kind: 'local', spiffeId, protocol, ...asked, ...within };
  }

  /** The addresses of a namespace for which listeners may be registered. */
  #addressesNamed(namespace: NetworkNamespace | undefined): readonly string[] {
    if (namespace !== undefined) return this.#options.namespaces?.addressesOf(namespace) ?? [];
    const named = Array.from(this.#index.listeners.keys(), (key) => parseKey(key).address);
    return named.filter((address) => address !== '' && this.#options.isOwnAddress(address));
  }

  #isElsewhere(address: string): boolean {
    return this.#options.namespaces?.findAt(address) !== undefined;
  }

  #changed(): void {
    this.#index = this.#build();
    this.#tell();
  }

  #tell(): void {
    for (const listener of Array.from(this.#listeners)) listener();
  }

  /** Nothing that is indexed stands on them. Of a pod that comes nobody hears, unless a listener is registered for an address of it: all that is open would be judged again for each. */
  #namespacesChanged({ isLoss, gained }: NamespacesChange): void {
    if (isLoss || gained.some((address) => this.#isNamed(address))) this.#tell();
  }

  #isNamed(address: string): boolean {
    return Array.from(this.#index.listeners.keys()).some((key) => parseKey(key).address === address);
  }

  #build(): Index {
    const { records, entries, services, places, ownNode, log } = this.#options;
    const byEndpoint = new Map<string, DirectoryRecord | null>();
    const addresses = new Set<string>();
    for (const record of records.current.values()) {
      addresses.add(record.address);
      const endpoint = endpointOf(record.address, record.port);
      const isKnown = byEndpoint.has(endpoint);
      if (isKnown) log.error('directory_conflict', { address: record.address, port: record.port });
      byEndpoint.set(endpoint, isKnown ? null : record);
    }
    const built = buildServices({
      services: services.current.values(),
      places: places.current,
      records: byEndpoint.values(),
      ownNode: ownNode(),
      isOwnAddress: (address) => this.isHere(address),
    });
    const serviceAt = indexServices(built, addresses, log);
    // The other ports of a service's address are nobody's: never plaintext.
    for (const { record } of built) for (const { address } of record.addresses) addresses.add(address);
    return {
      byEndpoint,
      addresses,
      serviceAt,
      services: built.map(({ found }) => found),
      gateways: indexGateways(byEndpoint.values()),
      listeners: indexListeners(entries.current, log),
    };
  }
}

/** What the server should refuse is refused here again: an address leads to one service, and is no host's own. */
function indexServices(
  built: ReturnType<typeof buildServices>,
  hostAddresses: ReadonlySet<string>,
  log: Log,
): ReadonlyMap<string, FoundService | null> {
  const serviceAt = new Map<string, FoundService | null>();
  for (const { record, found } of built)
    for (const { address, port } of record.addresses) {
      const endpoint = endpointOf(address, port);
      const isConflict = serviceAt.has(endpoint) || hostAddresses.has(address);
      if (isConflict) log.error('service_conflict', { service: record.name, address, port });
      serviceAt.set(endpoint, isConflict ? null : reachableFrom(address, found));
    }
  return serviceAt;
}

/** A gateway takes what agents bring, not what connects to its port. */
function servedProtocolOf(listener: Pick<Listener, 'protocol'> | undefined): ServedProtocol | undefined {
  return listener?.protocol === 'egress' ? undefined : listener?.protocol;
}

function indexGateways(
  records: Iterable<DirectoryRecord | null>,
): ReadonlyMap<SpiffeId, readonly SocketAddress[]> {
  const gateways = new Map<SpiffeId, SocketAddress[]>();
  for (const record of records) {
    if (record?.protocol !== 'egress') continue;
    const places = gateways.get(record.spiffeId) ?? [];
    places.push({ address: record.address, port: record.port });
    gateways.set(record.spiffeId, places);
  }
  return gateways;
}

function indexListeners(
  entries: ReadonlyMap<string, Entry>,
  log: Log,
): ReadonlyMap<string, LocalListener | null> {
  const found = new Map<string, LocalListener | null>();
  for (const { spiffeId, listeners } of entries.values())
    for (const each of listeners) {
      const key = keyOf(each.port, each.address);
      const listener = { spiffeId, ...each };
      const other = found.get(key);
      const isConflict = other !== undefined && !isSame(other, listener);
      if (isConflict) log.error('listener_conflict', { port: each.port, spiffeId });
      found.set(key, isConflict ? null : listener);
    }
  return found;
}

/** Several entries may give one identity to several processes; a port has one identity and is read in one way. */
function isSame(a: LocalListener | null, b: LocalListener | null | undefined): boolean {
  if (a === null || b === null || b === undefined) return false;
  return (
    a.spiffeId === b.spiffeId &&
    a.protocol === b.protocol &&
    a.proxyProtocol === b.proxyProtocol &&
    a.transparent === b.transparent
  );
}

function keyOf(port: number, address = ''): string {
  return `${port} ${address}`;
}

function parseKey(key: string): { readonly port: number; readonly address: string } {
  const [port = '', address = ''] = key.split(' ');
  return { port: Number(port), address };
}

function endpointOf(address: string, port: number): string {
  return `${address}|${port}`;
}
