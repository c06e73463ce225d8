import { z } from 'zod';
import { base64, counter, sha256Hex, timestamp, trustDomain } from './wire-values.ts';

/**
 * What a policy version says of itself, signed by the policy key. The signature is over the exact bytes of
 * `statement`, the JSON text of `policyStatement`, so nothing needs a canonical form.
 */
export const policyStatement = z.object({
  trustDomain,
  /** Whom the bundle is for: `mesh` today, one service once bundles are reduced. */
  target: z.string().max(255),
  /** Grows with every activation, also with a roll-back: an agent refuses a lower one than it has seen. */
  sequence: counter,
  /** The version as people name it: the number of the publication whose content this is. */
  version: counter,
  /** SHA-256 of the artefact, a gzip-compressed OPA bundle (tar) that holds /policy.wasm and /data.json. */
  digest: sha256Hex,
  /** Rego paths that the artefact answers, for example picket/authz/allow. */
  entrypoints: z.object({ allow: z.string().max(255), egress: z.string().max(255).optional() }),
  issuedAt: timestamp,
});

export const signedPolicy = z.object({
  statement: z.string().max(8192),
  /** ECDSA P-256 with SHA-256 over the UTF-8 bytes of `statement`, DER. */
  signature: base64(256),
  /** The policy signing certificate (leaf first, then intermediates), chaining to the trust domain's root. DER. */
  chain: z.array(base64(8192)).min(1).max(4),
});

export type PolicyStatement = z.output<typeof policyStatement>;
export type SignedPolicy = z.output<typeof signedPolicy>;
