import type { AttestRequest, AttestAnswer, ChallengeResponse } from '../../shared/protocol/attestation.ts';
import type { Selector } from '../../shared/spiffe/selector.ts';
import type { Transaction } from '../datastore/datastore.ts';

/** What an attestor knows once the host has proven itself. */
export interface AttestedNode {
  /** Last segment of the agent's SPIFFE ID, unique within the attestation type. */
  readonly name: string;
  readonly selectors: readonly Selector[];
  /** Whether the same host may attest again later (a TPM may, a join token may not). */
  readonly canReattest: boolean;
  /** Addresses that the operator declared for the host. */
  readonly declaredAddresses: readonly string[];
  /**
   * Uses the proof up in the transaction that admits the node, where a proof is good for one host only. Throws when somebody else was before. The serial of the
   * certificate that this very host got by it before, if it did: its answer may have been lost.
   */
  readonly redeem?: (transaction: Transaction) => Promise<string | undefined>;
}

export interface AttestationContext {
  /** SubjectPublicKeyInfo, DER, of the verified request for a certificate. */
  readonly csrPublicKeySpki: Uint8Array;
  /** SHA-256 of the DER of the certificate with which the server answered this TLS connection. */
  readonly serverCertificateSha256: Uint8Array;
}

type Payload = AttestRequest['payload'];
type Challenge = Extract<AttestAnswer, { kind: 'challenge' }>['challenge'];

export type AttestationStep =
  | { readonly kind: 'attested'; readonly node: AttestedNode }
  | {
      readonly kind: 'challenge';
      readonly challenge: Challenge;
      /** Who claims to be there, not yet proven: pending sessions are counted by it. */
      readonly subject: string;
      /** Called at most once, within the life of the session, on the same connection's terms. */
      readonly respond: (response: ChallengeResponse['payload']) => Promise<AttestedNode>;
    };

/**
 * One way for a host to prove what it is. Port: `join-token.ts`, `tpm.ts`. Refusals are thrown as `permission_denied` with a reason from the
 * attestor's closed list; what the host is told is the reason, not how close it came.
 */
export interface NodeAttestor<P extends Payload = Payload> {
  readonly type: P['type'];
  begin(payload: P, context: AttestationContext): Promise<AttestationStep>;
}
