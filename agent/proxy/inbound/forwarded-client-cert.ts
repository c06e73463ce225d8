import { hash } from 'node:crypto';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import { CLIENT_CERT_HEADER } from '../../../shared/wire/http1-syntax.ts';
import type { MeshCaller } from '../mesh/mesh.ts';

/** The field line by which the application learns who calls; nothing for a caller without identity. */
export function buildClientCertLine(target: SpiffeId, caller: MeshCaller | null): Uint8Array {
  if (caller === null) return new Uint8Array(0);
  return Buffer.from(`${CLIENT_CERT_HEADER}: ${buildValue(target, caller)}\r\n`);
}

/** The same as a header block of HTTP/2 that stands for itself. It may be put into no table (RFC 7541 7.1.3). */
export function buildClientCertBlock(target: SpiffeId, caller: MeshCaller | null): Uint8Array {
  if (caller === null) return new Uint8Array(0);
  return encodeFields([
    { name: CLIENT_CERT_HEADER, value: buildValue(target, caller), isNeverIndexed: true },
  ]);
}

/** As Envoy writes it (x-forwarded-client-cert: By, Hash, URI). */
function buildValue(target: SpiffeId, caller: MeshCaller): string {
  return `By=${target};Hash=${hash('sha256', caller.leaf, 'hex')};URI=${caller.spiffeId}`;
}
