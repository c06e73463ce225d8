import { hash } from 'node:crypto';
import type { TrustBundle, TrustBundles } from './trust-bundle.ts';
import { verifyX509Svid, type VerifiedSvid } from './x509-svid.ts';

/** Leaves that are remembered. */
const MAX_LEAVES = 1024;

/** A leaf that was verified, with the path that led to its root. */
export interface VerifiedChain {
  readonly svid: VerifiedSvid;
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
}

interface Known extends VerifiedChain {
  /** The very bundle that it was verified under: bundles are replaced whole, never changed. */
  readonly bundle: TrustBundle | undefined;
}

/**
 * `verifyX509Svid` for leaves that come again and again. Signatures are not verified twice: a leaf that was trusted under a bundle is trusted under the same one, whatever is
 * shown beside it, as long as every certificate of the path that was found is valid. At each call it is looked at again whether they are; outside of that time, and under
 * another bundle, everything is verified anew. A refusal is not remembered.
 */
export class SvidVerifier {
  /** By the SHA-256 of the leaf. */
  readonly #known = new Map<string, Known>();

  /** As `verifyX509Svid`. */
  verify(chain: readonly Uint8Array[], bundles: TrustBundles, nowMs: number): VerifiedChain {
    const [leaf] = chain;
    const known = leaf === undefined ? undefined : this.recall(leaf, bundles, nowMs);
    if (known !== undefined) return known;
    const svid = verifyX509Svid(chain, bundles, nowMs);
    const verified = { svid, chain, bundle: bundles.get(svid.trustDomain) };
    this.#known.delete(svid.fingerprintSha256);
    this.#known.set(svid.fingerprintSha256, verified);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_LEAVES && oldest !== undefined) this.#known.delete(oldest);
    return verified;
  }

  /** The leaf (DER) as it was verified before, if that holds still. */
  recall(leaf: Uint8Array, bundles: TrustBundles, nowMs: number): VerifiedChain | undefined {
    const known = this.#known.get(hash('sha256', leaf, 'hex'));
    return known !== undefined && isGood(known, bundles, nowMs) ? known : undefined;
  }
}

function isGood({ svid, bundle }: Known, bundles: TrustBundles, nowMs: number): boolean {
  const isSameTrust = bundle !== undefined && bundles.get(svid.trustDomain) === bundle;
  return isSameTrust && nowMs >= svid.pathNotBeforeMs && nowMs <= svid.notAfterMs;
}
