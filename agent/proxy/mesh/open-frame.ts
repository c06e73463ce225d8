import { encodeIpAddress } from '../../../shared/runtime/ip-address.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { OpenFrame } from '../tunnel/server.ts';
import type { MeshRequest } from './mesh.ts';

/** How a connection is asked for in the tunnel. */
export function buildOpenFrame({ connectionId, destination, source }: MeshRequest): OpenFrame {
  return {
    type: 'open',
    connectionId,
    destination: toFrameAddress(destination),
    source: toFrameAddress(source),
  };
}

function toFrameAddress({ address, port }: SocketAddress): OpenFrame['source'] {
  return { address: encodeIpAddress(address), port };
}
