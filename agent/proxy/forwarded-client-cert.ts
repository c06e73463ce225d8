import { hash } from 'node:crypto';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { MeshCaller } from './mesh.ts';

/** The field line by which the application learns who calls, as Envoy writes it (x-forwarded-client-cert: By, Hash, URI); nothing for a caller without identity. */
export function buildClientCertLine(target: SpiffeId, caller: MeshCaller | null): Uint8Array {
  if (caller === null) return new Uint8Array(0);
  const value = `By=${target};Hash=${hash('sha256', caller.leaf, 'hex')};URI=${caller.spiffeId}`;
  return Buffer.from(`x-forwarded-client-cert: ${value}\r\n`);
}
