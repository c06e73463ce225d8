import { z } from 'zod';
import { base64, counter, ipAddress, sha256Hex, spiffeId } from './wire-values.ts';

/**
 * Node attestation, spoken over server-authenticated TLS on 8443 (the agent verifies the server against its trust bundle or
 * against the pinned hash of the root's public key):
 *
 *   POST /v1/attest              attestRequest  -> attestAnswer (result, or a challenge)
 *   POST /v1/attest/{session}    challengeResponse -> attestAnswer
 *   GET  /v1/bundle              -> wireBundle of the server's own trust domain, for anybody: a host that was given a pin keeps of it only what the pin names
 *
 * A session lives on one server for a minute and is answered once.
 */

/** The largest certificate signing request that is read, in bytes of DER. */
export const MAX_CSR_BYTES = 8192;

/** PKCS#10 in DER. It conveys a public key and proves possession of its private half; every other wish in it is ignored. */
export const csr = base64(MAX_CSR_BYTES);

export const joinTokenPayload = z.object({
  type: z.literal('join_token'),
  token: z.string().min(1).max(256),
});

/** First message of TPM attestation: structures as the TPM marshals them (TPM 2.0 Part 2), base64. */
export const tpmPayload = z.object({
  type: z.literal('tpm'),
  /** TPMT_PUBLIC of the endorsement key. */
  ekPublic: base64(1024),
  /** DER of the EK certificate read from NV, when the TPM has one. */
  ekCertificate: base64(8192).optional(),
  /** TPMT_PUBLIC of the attestation key. */
  akPublic: base64(1024),
});

export const attestRequest = z.object({
  csr,
  payload: z.discriminatedUnion('type', [joinTokenPayload, tpmPayload]),
  agentVersion: z.string().max(64),
  /** Addresses that the host claims; each stays pending until an operator or the server's own look confirms it. */
  addresses: z.array(ipAddress).max(64).default([]),
});

/** What the agent must prove next. */
export const tpmChallenge = z.object({
  type: z.literal('tpm'),
  /** TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET of TPM2_MakeCredential. */
  credentialBlob: base64(1024),
  encryptedSecret: base64(1024),
  /** 32 random bytes; the quote's qualifyingData is SHA-256 of nonce, CSR public key (SPKI DER) and SHA-256 of the server's TLS certificate. */
  nonce: base64(64),
  /** PCRs of the SHA-256 bank to quote. */
  pcrs: z.array(z.number().int().min(0).max(23)).min(1).max(24),
});

export const tpmChallengeResponse = z.object({
  type: z.literal('tpm'),
  /** The secret that TPM2_ActivateCredential released. */
  secret: base64(64),
  /** TPMS_ATTEST and TPMT_SIGNATURE of TPM2_Quote. */
  quote: base64(2048),
  signature: base64(1024),
  /** Values of the quoted PCRs in hexadecimal, in the order of the challenge. */
  pcrValues: z.array(sha256Hex).max(24),
});

export const challengeResponse = z.object({ payload: z.discriminatedUnion('type', [tpmChallengeResponse]) });

/** An SVID as issued: the leaf first, then the intermediates; never the root. DER in base64. */
export const issuedSvid = z.object({
  spiffeId,
  chain: z.array(base64(8192)).min(1).max(4),
  notAfter: z.iso.datetime({ offset: true }),
});

/** A trust bundle on the wire: DER certificates in base64 (the SPIFFE JWKS form is what the bundle endpoint serves). */
export const wireBundle = z.object({
  trustDomain: z.string().max(255),
  sequence: counter,
  refreshHintSeconds: z.number().int().min(1).max(86_400),
  x509Authorities: z.array(base64(8192)).max(64),
});

export const attestAnswer = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('challenge'),
    session: z.string().max(64),
    challenge: z.discriminatedUnion('type', [tpmChallenge]),
  }),
  z.object({ kind: z.literal('attested'), svid: issuedSvid, bundle: wireBundle }),
]);

/** POST /v1/agent/renew, mTLS with the agent's current SVID. */
export const renewRequest = z.object({ csr });
export const renewAnswer = z.object({ svid: issuedSvid, bundle: wireBundle });

export type AttestRequest = z.output<typeof attestRequest>;
export type AttestAnswer = z.output<typeof attestAnswer>;
export type ChallengeResponse = z.output<typeof challengeResponse>;
export type TpmPayload = z.output<typeof tpmPayload>;
export type TpmChallenge = z.output<typeof tpmChallenge>;
export type TpmChallengeResponse = z.output<typeof tpmChallengeResponse>;
export type IssuedSvid = z.output<typeof issuedSvid>;
export type WireBundle = z.output<typeof wireBundle>;
