import type { CertificateTerms } from '../../shared/policy/egress-terms.ts';

/** What a server proved in a handshake that succeeded: it holds the key of this certificate. */
export interface ProvenCertificate {
  /** SHA-256 of its public key (SubjectPublicKeyInfo), lower-case hexadecimal. */
  readonly spkiSha256: string;
  /** Why the authority does not vouch for it under the name that was asked for; undefined where it does, or none was given. */
  readonly distrust: string | undefined;
}

/** What a proof lacks of the terms, in a sentence for people; undefined where it lacks nothing. Whoever asked without an authority finds no distrust. */
export function findProofFault(
  { spkiSha256: shown, distrust }: ProvenCertificate,
  { spkiSha256, authority }: CertificateTerms,
): string | undefined {
  if (spkiSha256 !== undefined && !spkiSha256.includes(shown))
    return `The server shows a certificate with another key (SPKI SHA-256 ${shown})`;
  if (distrust === undefined) return undefined;
  const whose =
    authority === undefined
      ? 'No authority of the host that dials vouches'
      : `The authority "${authority}" does not vouch`;
  return `${whose} for the server's certificate: ${distrust}`;
}
