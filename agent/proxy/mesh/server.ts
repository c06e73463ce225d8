import { decodeIpAddress } from '../../../shared/runtime/ip-address.ts';
import type { FrameAddress } from '../../../shared/wire/tunnel-frame.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import { HboneServer } from '../hbone/server.ts';
import { TunnelServer, type TunnelOpening } from '../tunnel/server.ts';
import type { MeshProtocol, MeshServerSession } from './protocol.ts';
import type { MeshServerOptions, ServerOpening } from './server-opening.ts';

/** The called side of what is spoken within a TLS connection. */
export function createMeshServer(protocol: MeshProtocol, options: MeshServerOptions): MeshServerSession {
  if (protocol === 'hbone') return new HboneServer(options);
  return new TunnelServer({ ...options, onOpening: (opening) => options.onOpening(openingOf(opening)) });
}

function openingOf(opening: TunnelOpening): ServerOpening {
  const { connectionId, destination, source } = opening.frame;
  return {
    connectionId,
    isIdOfCaller: true,
    destination: toSocketAddress(destination),
    claimedSource: toSocketAddress(source),
    accept: () => opening.accept(),
    deny: (denial) => opening.deny(denial),
    onAbandoned: (listener) => opening.onAbandoned(listener),
    onLeaving: (listener) => opening.onLeaving(listener),
  };
}

function toSocketAddress({ address, port }: FrameAddress): SocketAddress {
  return { address: decodeIpAddress(address), port };
}
