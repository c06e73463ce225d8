import type { Entry } from '../../shared/protocol/registration.ts';
import type { DirectoryRecord } from '../../shared/protocol/sync.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { Directory, DirectoryAnswer } from './directory.ts';
import { canonicalAddress, isLoopback } from './host-address.ts';

export interface RegisteredDirectoryOptions {
  /** What the server says of all hosts; addresses in their canonical spelling. */
  readonly records: Watched<ReadonlyMap<string, DirectoryRecord>>;
  /** The entries of this host's agent, by id. */
  readonly entries: Watched<ReadonlyMap<string, Entry>>;
  /** Whether an address in canonical spelling is one of this host's own. Asked for each connection. */
  readonly isOwnAddress: (address: string) => boolean;
  readonly log: Log;
}

/** What stands at an address, made once for each change. `null`: two records contradict each other. */
interface Index {
  readonly byEndpoint: ReadonlyMap<string, DirectoryRecord | null>;
  readonly addresses: ReadonlySet<string>;
  /** By port; `null`: two identities, or two protocols, claim it. */
  readonly listeners: ReadonlyMap<number, Entry | null>;
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
    this.#unwatch = [options.records.watch(changed), options.entries.watch(changed)];
  }

  find(destination: SocketAddress): DirectoryAnswer {
    const address = canonicalAddress(destination.address) ?? destination.address;
    const { port } = destination;
    if (isLoopback(address) || this.#options.isOwnAddress(address)) return this.#findOwn(port);
    const record = this.#index.byEndpoint.get(endpointOf(address, port));
    if (record !== undefined && record !== null)
      return { kind: 'remote', spiffeId: record.spiffeId, protocol: record.protocol };
    // An address that is once in the mesh is never spoken to in plaintext.
    return this.#index.addresses.has(address) ? { kind: 'unregistered' } : { kind: 'outside' };
  }

  findLocalListener(port: number): Entry | undefined {
    return this.#index.listeners.get(port) ?? undefined;
  }

  localPorts(): readonly number[] {
    return [...this.#index.listeners.keys()].toSorted((a, b) => a - b);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Follows no more changes. */
  stop(): void {
    for (const unwatch of this.#unwatch) unwatch();
  }

  #findOwn(port: number): DirectoryAnswer {
    const entry = this.findLocalListener(port);
    const listener = entry?.listeners.find((each) => each.port === port);
    if (entry === undefined || listener === undefined) return { kind: 'unregistered' };
    return { kind: 'local', spiffeId: entry.spiffeId, protocol: listener.protocol };
  }

  #changed(): void {
    this.#index = this.#build();
    for (const listener of Array.from(this.#listeners)) listener();
  }

  #build(): Index {
    const { records, entries, log } = this.#options;
    const byEndpoint = new Map<string, DirectoryRecord | null>();
    const addresses = new Set<string>();
    for (const record of records.current.values()) {
      addresses.add(record.address);
      const endpoint = endpointOf(record.address, record.port);
      const isKnown = byEndpoint.has(endpoint);
      if (isKnown) log.error('directory_conflict', { address: record.address, port: record.port });
      byEndpoint.set(endpoint, isKnown ? null : record);
    }
    return { byEndpoint, addresses, listeners: indexListeners(entries.current, log) };
  }
}

function indexListeners(entries: ReadonlyMap<string, Entry>, log: Log): ReadonlyMap<number, Entry | null> {
  const found = new Map<number, Entry | null>();
  for (const entry of entries.values())
    for (const { port } of entry.listeners) {
      const other = found.get(port);
      const isConflict = other === null || (other !== undefined && !agree(other, entry, port));
      if (isConflict) log.error('listener_conflict', { port, spiffeId: entry.spiffeId });
      found.set(port, isConflict ? null : (other ?? entry));
    }
  return found;
}

/** Several entries may give one identity to several processes; a port has one identity and one protocol. */
function agree(a: Entry, b: Entry, port: number): boolean {
  const protocolOf = (entry: Entry): string | undefined =>
    entry.listeners.find((listener) => listener.port === port)?.protocol;
  return a.spiffeId === b.spiffeId && protocolOf(a) === protocolOf(b);
}

function endpointOf(address: string, port: number): string {
  return `${address}|${port}`;
}
