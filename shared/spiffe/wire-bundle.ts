import { PicketError } from '../errors/errors.ts';
import type { WireBundle } from '../protocol/attestation.ts';
import { parseX509Certificate } from '../wire/x509-certificate.ts';
import type { TrustBundle } from './trust-bundle.ts';
import { parseTrustDomain } from './trust-domain.ts';

/** The bundle as agent and server exchange it. */
export function toWireBundle(bundle: TrustBundle): WireBundle {
  return {
    trustDomain: bundle.trustDomain,
    sequence: bundle.sequence,
    refreshHintSeconds: bundle.refreshHintSeconds,
    x509Authorities: bundle.x509Authorities.map((der) => Buffer.from(der).toString('base64')),
  };
}

/** The bundle that a message of the protocol carries. Throws `invalid_argument`, reasons `trust_domain_invalid` and `bundle_invalid`. */
export function fromWireBundle(wire: WireBundle): TrustBundle {
  return {
    trustDomain: parseTrustDomain(wire.trustDomain),
    sequence: wire.sequence,
    refreshHintSeconds: wire.refreshHintSeconds,
    x509Authorities: wire.x509Authorities.map(readAuthority),
  };
}

function readAuthority(base64: string): Uint8Array {
  const der = new Uint8Array(Buffer.from(base64, 'base64'));
  try {
    parseX509Certificate(der);
    return der;
  } catch (cause) {
    throw new PicketError(
      'invalid_argument',
      'bundle_invalid',
      'Cannot read the trust bundle: a certificate cannot be read',
      { cause },
    );
  }
}
