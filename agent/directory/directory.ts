import type { ListenerProtocol } from '../../shared/protocol/registration.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { FoundService } from './service-index.ts';
import type { InNamespace } from '../native/network-namespace.ts';
import type { SocketAddress } from '../native/socket-address.ts';

/** How an application's listener is read. */
export type ServedProtocol = Exclude<ListenerProtocol, 'egress'>;

/** What registration says of a destination. */
export type DirectoryAnswer =
  /** A registered listener on another host. */
  | {
      readonly kind: 'remote';
      readonly spiffeId: SpiffeId;
      readonly protocol: ServedProtocol;
      /** How its host is spoken to; through the tunnel between agents unless given. */
      readonly transport?: 'hbone';
    }
  /** A registered listener of this host, reached by one of its own addresses, or in a captured namespace of it by one of that. */
  | ({
      readonly kind: 'local';
      readonly spiffeId: SpiffeId;
      readonly protocol: ServedProtocol;
      /** The program expects the header of PROXY protocol version 2. */
      readonly proxyProtocol?: 'v2';
      /** The program is connected from the caller's address. */
      readonly transparent?: true;
    } & InNamespace)
  /** A service in several places. */
  | ({ readonly kind: 'service' } & FoundService)
  /** An address of a meshed host, but nothing is registered at that port: never plaintext. */
  | { readonly kind: 'unregistered' }
  /** Not in the mesh. */
  | { readonly kind: 'outside' };

/** Which identity answers where. Everything comes from registration, nothing from observation. */
export interface Directory {
  /** `from`: whose loopback addresses are meant; the host's own unless given. */
  find(destination: SocketAddress, from?: InNamespace): DirectoryAnswer;
  /** All services in several places. */
  services(): readonly FoundService[];
  /** Ports of all listeners registered on this host, or in a namespace of it: what loopback capture needs. */
  localPorts(where?: InNamespace): readonly number[];
  /** Ports of the listeners of this host's own namespace that are connected from the caller's address. */
  transparentPorts(): readonly number[];
  /** Whether an address in canonical spelling is one of this host, or of a namespace of it. */
  isHere(address: string): boolean;
  /** Where other hosts are registered as this gateway out of the mesh: the mesh port of each address of theirs. */
  findGateways(gateway: SpiffeId): readonly SocketAddress[];
  /** Whether this host is registered as this gateway, at this port. */
  isGateway(gateway: SpiffeId, meshPort: number): boolean;
  /** Calls `listener` after each change of what the functions above answer. */
  watch(listener: () => void): () => void;
}
