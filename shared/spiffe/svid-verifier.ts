import { createHash } from 'node:crypto';
import type { TrustBundle, TrustBundles } from './trust-bundle.ts';
import { verifyX509Svid, type VerifiedSvid } from './x509-svid.ts';

/** Chains that are remembered. */
const MAX_CHAINS = 1024;

interface Verified {
  readonly svid: VerifiedSvid;
  /** The very bundle that it was verified under: bundles are replaced whole, never changed. */
  readonly bundle: TrustBundle | undefined;
}

/**
 * `verifyX509Svid` for chains that come again and again. Signatures are not verified twice: the same bytes under the same bundle give the same answer,
 * as long as every certificate of the path is valid. At each call it is looked at again whether they are; outside of that time, and under
 * another bundle, everything is verified anew. A refusal is not remembered.
 */
export class SvidVerifier {
  readonly #known = new Map<string, Verified>();

  /** As `verifyX509Svid`. */
  verify(chain: readonly Uint8Array[], bundles: TrustBundles, nowMs: number): VerifiedSvid {
    const key = keyOf(chain);
    const known = this.#known.get(key);
    if (known !== undefined && isGood(known, bundles, nowMs)) return known.svid;
    this.#known.delete(key);
    const svid = verifyX509Svid(chain, bundles, nowMs);
    this.#known.set(key, { svid, bundle: bundles.get(svid.trustDomain) });
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_CHAINS && oldest !== undefined) this.#known.delete(oldest);
    return svid;
  }
}

function isGood({ svid, bundle }: Verified, bundles: TrustBundles, nowMs: number): boolean {
  const isSameTrust = bundle !== undefined && bundles.get(svid.trustDomain) === bundle;
  return isSameTrust && nowMs >= svid.pathNotBeforeMs && nowMs <= svid.notAfterMs;
}

/** Each certificate goes in with its length, so that no two chains give the same text. */
function keyOf(chain: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const der of chain) hash.update(`${der.length} `).update(der);
  return hash.digest('base64');
}
