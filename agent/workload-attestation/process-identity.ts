import type { InNamespace } from '../native/network-namespace.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import type { UdpSocket } from '../native/sock-diag-message.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';

/**
 * Whose connection or listener it is, and one of the processes with its effective user, where there is one. `unidentified` says why in a word, for the
 * record and for `picket why`.
 */
export type ProcessIdentity =
  | {
      readonly kind: 'identified';
      readonly spiffeId: SpiffeId;
      readonly pid: number;
      readonly uid: number | null;
    }
  | {
      readonly kind: 'unidentified';
      readonly why: 'no_holder' | 'holders_differ' | 'no_entry' | 'ambiguous_entry' | 'changed' | 'limit';
      readonly pid: number | null;
      readonly uid: number | null;
      /**
       * Everybody that a caller may be: what any of its processes earns, or all entries of this host where that is not known. It has none of these identities,
       * and is still held by the quarantine of each. Absent for listeners.
       */
      readonly mayBe?: readonly SpiffeId[];
    };

/** A process as it was at a moment. */
export interface ObservedProcess {
  /** Effective user and group. */
  readonly uid: number;
  readonly gid: number;
  /** Whether it still is the same process, running the same program with the same rights. */
  isSame(): boolean;
}

/** Finds the identity behind a UDP socket of this host. */
export interface SenderIdentifier {
  /** As `identifyCaller`, of the processes that hold sockets any of which may have sent, at least one: what each of them earns. */
  identifySender(sockets: readonly UdpSocket[], where?: InNamespace): Promise<ProcessIdentity>;
}

/** Finds the identity behind a socket of this host. */
export interface ProcessIdentifier {
  /**
   * The identity of the process that holds the client side of a captured connection: `client` is its own address, `destination` the one it asked for.
   * All holders at accept must earn the same identity, and still be the same after their selectors were read. `admit` is told at once which user's the
   * socket is, where there is one; nobody is looked for when it says no, and the answer is `limit`. All who hold a socket of another namespace than the agent's must live there.
   */
  identifyCaller(
    client: SocketAddress,
    destination: SocketAddress,
    options?: { readonly admit?: (uid: number) => boolean } & InNamespace,
  ): Promise<ProcessIdentity>;
  /** Whether the processes that listen at `listener` earn `expected`; root holders count only where nobody else holds the socket. */
  identifyListener(
    listener: SocketAddress,
    expected: SpiffeId,
    where?: InNamespace,
  ): Promise<ProcessIdentity>;
  /** Every identity that a process earns, default first: for the Workload API. Empty when none. `isSame` is false once the process has changed. */
  identitiesOf(pid: number): Promise<{
    readonly entryIds: readonly string[];
    /** Of these entries, also of those whose certificate is not there. */
    readonly spiffeIds: readonly SpiffeId[];
    readonly isSame: () => boolean;
  }>;
  /** What a process is now; undefined when there is none. */
  observe(pid: number): ObservedProcess | undefined;
}
