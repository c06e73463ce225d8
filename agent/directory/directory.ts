import type { Entry, ListenerProtocol } from '../../shared/protocol/registration.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { SocketAddress } from '../native/socket-address.ts';

/** What registration says of a destination. */
export type DirectoryAnswer =
  /** A registered listener on another host. */
  | { readonly kind: 'remote'; readonly spiffeId: SpiffeId; readonly protocol: ListenerProtocol }
  /** A registered listener of this host, reached by one of its own addresses. */
  | { readonly kind: 'local'; readonly spiffeId: SpiffeId; readonly protocol: ListenerProtocol }
  /** An address of a meshed host, but nothing is registered at that port: never plaintext. */
  | { readonly kind: 'unregistered' }
  /** Not in the mesh. */
  | { readonly kind: 'outside' };

/** Which identity answers where (design: decision 18). Everything comes from registration, nothing from observation. */
export interface Directory {
  find(destination: SocketAddress): DirectoryAnswer;
  /** The entry whose listener is registered on this host at `port`, or undefined. More than one entry for a port is a conflict: undefined, and logged. */
  findLocalListener(port: number): Entry | undefined;
  /** Ports of all listeners registered on this host: what loopback capture needs. */
  localPorts(): readonly number[];
  /** Calls `listener` after each change of what the functions above answer. */
  watch(listener: () => void): () => void;
}
