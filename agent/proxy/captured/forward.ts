import type { SocketAddress } from '../../native/socket-address.ts';

/** A loopback port that leads to a service of the mesh, as if the program had connected there itself. Who may use it is decided by who connects, as for captured connections. */
export interface Forward {
  readonly listen: SocketAddress;
  readonly to: SocketAddress;
}
