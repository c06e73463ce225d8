import { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import type { IssuedSvid } from '../../shared/protocol/attestation.ts';
import { base64 } from '../../shared/protocol/wire-values.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { readLeafIdentity, verifyX509Svid } from '../../shared/spiffe/x509-svid.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { parseX509Certificate } from '../../shared/wire/x509-certificate.ts';
import type { HeldSvid } from './identity.ts';
import { publicKeyOf } from './key-pair.ts';

/** How an SVID is kept sealed. */
export const sealedSvid = z.object({
  chain: z.array(base64(8192)).min(1).max(4),
  privateKey: base64(1024),
});

export type SealedSvid = z.output<typeof sealedSvid>;

/**
 * Takes an SVID that the server issued for a key of ours. Throws `unavailable`, reason `svid_unusable`, when it is not for
 * `expected.publicKeySpki`, not for `expected.spiffeId`, or not of the bundle: what we cannot use ourselves is not handed to workloads.
 */
export function holdSvid(
  issued: IssuedSvid,
  privateKeyPkcs8: Uint8Array,
  expected: { readonly spiffeId?: SpiffeId; readonly bundle: TrustBundle; readonly nowMs: number },
): HeldSvid {
  const chain = issued.chain.map((text) => new Uint8Array(Buffer.from(text, 'base64')));
  const held = buildHeldSvid(chain, privateKeyPkcs8);
  const verified = verifyX509Svid(
    chain,
    new Map([[expected.bundle.trustDomain, expected.bundle]]),
    expected.nowMs,
  );
  if (expected.spiffeId !== undefined && verified.spiffeId !== expected.spiffeId)
    throw unusable(`it names ${verified.spiffeId}, not ${expected.spiffeId}`);
  // An intermediate that ends before the leaf ends its use too.
  return { ...held, notAfterMs: Math.min(held.notAfterMs, verified.notAfterMs) };
}

/** An SVID as it is kept sealed. */
export function sealSvid(svid: HeldSvid): SealedSvid {
  return {
    chain: svid.chain.map((der) => Buffer.from(der).toString('base64')),
    privateKey: Buffer.from(svid.privateKeyPkcs8).toString('base64'),
  };
}

/** The mirror of `sealSvid`. Throws when it is no SVID with its key. Whether it is still valid is for the caller to ask. */
export function unsealSvid(sealed: SealedSvid): HeldSvid {
  const chain = sealed.chain.map((text) => new Uint8Array(Buffer.from(text, 'base64')));
  return buildHeldSvid(chain, new Uint8Array(Buffer.from(sealed.privateKey, 'base64')));
}

function buildHeldSvid(chain: readonly Uint8Array[], privateKeyPkcs8: Uint8Array): HeldSvid {
  const [leaf] = chain;
  if (leaf === undefined) throw unusable('there is no certificate');
  const { spiffeId, notBeforeMs, notAfterMs } = readLeafIdentity(leaf);
  const { publicKeySpki } = parseX509Certificate(leaf);
  if (!isKeyOf(publicKeySpki, privateKeyPkcs8)) throw unusable('it is for another key');
  return {
    spiffeId,
    chain,
    privateKeyPkcs8,
    chainPem: chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    privateKeyPem: encodePem('PRIVATE KEY', privateKeyPkcs8),
    notBeforeMs,
    notAfterMs,
  };
}

function isKeyOf(publicKeySpki: Uint8Array, privateKeyPkcs8: Uint8Array): boolean {
  try {
    return Buffer.from(publicKeySpki).equals(publicKeyOf(privateKeyPkcs8));
  } catch (cause) {
    throw unusable('its key cannot be read', cause);
  }
}

function unusable(why: string, cause?: unknown): PicketError {
  return new PicketError(
    'unavailable',
    'svid_unusable',
    `Cannot use the SVID that the server issued: ${why}`,
    { cause },
  );
}
