import type { AttestAnswer, AttestRequest, ChallengeResponse } from '../../shared/protocol/attestation.ts';

type Challenge = Extract<AttestAnswer, { kind: 'challenge' }>['challenge'];

/** The agent's side of node attestation. Port: `join-token.ts`, `tpm.ts`. */
export interface NodeProver {
  /** The first message. */
  payload(): Promise<AttestRequest['payload']>;
  /** Answers the server's challenge. `csrPublicKeySpki` and `serverCertificateSha256` are bound into the proof. */
  respond(
    challenge: Challenge,
    context: { readonly csrPublicKeySpki: Uint8Array; readonly serverCertificateSha256: Uint8Array },
  ): Promise<ChallengeResponse['payload']>;
  /** Whether the same host may attest again when its SVID has ended. */
  readonly canReattest: boolean;
  close(): Promise<void>;
}
