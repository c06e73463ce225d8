import type { Entry } from '../../shared/protocol/registration.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import type { SpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundles } from '../../shared/spiffe/trust-bundle.ts';

/** An X509-SVID with its private key, as a workload or the proxy uses it. */
export interface HeldSvid {
  readonly spiffeId: SpiffeId;
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
  /** PKCS#8, DER. */
  readonly privateKeyPkcs8: Uint8Array;
  /** The chain and the key once more as PEM, made once because every handshake asks for them. */
  readonly chainPem: string;
  readonly privateKeyPem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A workload identity that this host may serve, with its current certificate. */
export interface WorkloadIdentity {
  readonly entry: Entry;
  readonly svid: HeldSvid;
}

/** Everything the host knows of identities, each replaced whole when something changes. */
export interface IdentitySource {
  /** By entry id; an entry appears once its first SVID is there, and goes when it is withdrawn or its SVID has ended. */
  readonly identities: Watched<ReadonlyMap<string, WorkloadIdentity>>;
  readonly bundles: Watched<TrustBundles>;
  /** The agent's own SVID. */
  readonly agentSvid: Watched<HeldSvid>;
}
