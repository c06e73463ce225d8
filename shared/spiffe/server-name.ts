import { hash } from 'node:crypto';
import type { SpiffeId } from './spiffe-id.ts';

/**
 * The TLS server name under which a workload is asked for: the first 32 hexadecimal digits of the SHA-256 of its SPIFFE ID,
 * with the suffix `.picket`. It fits a DNS label whatever the ID is, and shows an eavesdropper no name.
 */
export function spiffeServerName(id: SpiffeId): string {
  return `${hash('sha256', id, 'hex').slice(0, 32)}.picket`;
}
