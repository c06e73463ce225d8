import type { TestHost } from '../../kit/netns.ts';
import type { PairMode, Sessions } from './contender.ts';
import type { PeerCertificates } from './peer-certificates.ts';

/** A pair of a peer, as it is to be started. */
export interface PeerPair {
  readonly caller: TestHost;
  readonly called: TestHost;
  /** Where the two sides listen, on loopback of the caller's host and on the called host's address. */
  readonly ports: { readonly entry: number; readonly tls: number };
  /** The application's port on the called host. */
  readonly application: number;
  readonly mode: PairMode;
  readonly sessions: Sessions;
  /** Threads or worker processes of each side. */
  readonly threads: number;
  readonly certificates: PeerCertificates;
  /** For configurations and logs; it exists. */
  readonly folder: string;
}
