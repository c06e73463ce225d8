import type { TpmCurve } from './tpm2-algorithms.ts';
import { TPM_OBJECT, type TpmPublic } from './tpm2-public.ts';

/**
 * The default templates of the TCG EK Credential Profile 2.x, annex B, by which a TPM makes its endorsement keys anew from its seed, each with
 * the NV index of the certificate that the manufacturer may have left.
 */
export type EkTemplateName = 'rsa2048' | 'eccP256' | 'eccP384';

export interface EkTemplate {
  readonly name: EkTemplateName;
  readonly certificateNvIndex: number;
  readonly area: TpmPublic;
}

const STORAGE_KEY =
  TPM_OBJECT.fixedTpm |
  TPM_OBJECT.fixedParent |
  TPM_OBJECT.sensitiveDataOrigin |
  TPM_OBJECT.adminWithPolicy |
  TPM_OBJECT.restricted |
  TPM_OBJECT.decrypt;

/** What an attestation key must be: made in this TPM, never to leave it, and signing only what the TPM itself said. */
export const ATTESTATION_KEY =
  TPM_OBJECT.fixedTpm |
  TPM_OBJECT.fixedParent |
  TPM_OBJECT.sensitiveDataOrigin |
  TPM_OBJECT.restricted |
  TPM_OBJECT.sign;

/** What an endorsement key must be: a storage key of this TPM that signs nothing. */
export const ENDORSEMENT_KEY =
  TPM_OBJECT.fixedTpm |
  TPM_OBJECT.fixedParent |
  TPM_OBJECT.sensitiveDataOrigin |
  TPM_OBJECT.restricted |
  TPM_OBJECT.decrypt;

/** PolicyA with SHA-256: PolicySecret of the endorsement hierarchy. */
const POLICY_A_SHA256 = '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa';
/** PolicyB with SHA-384: PolicyA or an authorisation in NV. */
const POLICY_B_SHA384 =
  'b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12';

/** Templates L-1, L-2 and H-3. */
export const EK_TEMPLATES: Readonly<Record<EkTemplateName, EkTemplate>> = {
  rsa2048: {
    name: 'rsa2048',
    certificateNvIndex: 0x01c0_0002,
    area: {
      nameAlgorithm: 'sha256',
      attributes: STORAGE_KEY,
      authPolicy: Buffer.from(POLICY_A_SHA256, 'hex'),
      symmetricBits: 128,
      signingHash: null,
      key: { kind: 'rsa', keyBits: 2048, exponent: 0, modulus: new Uint8Array(256) },
    },
  },
  eccP256: {
    name: 'eccP256',
    certificateNvIndex: 0x01c0_000a,
    area: {
      nameAlgorithm: 'sha256',
      attributes: STORAGE_KEY,
      authPolicy: Buffer.from(POLICY_A_SHA256, 'hex'),
      symmetricBits: 128,
      signingHash: null,
      key: eccUnique('p256', 32),
    },
  },
  eccP384: {
    name: 'eccP384',
    certificateNvIndex: 0x01c0_0016,
    area: {
      nameAlgorithm: 'sha384',
      attributes: STORAGE_KEY | TPM_OBJECT.userWithAuth,
      authPolicy: Buffer.from(POLICY_B_SHA384, 'hex'),
      symmetricBits: 256,
      signingHash: null,
      key: eccUnique('p384', 0),
    },
  },
};

/** The attestation keys that Picket makes: ECDSA P-256, or RSASSA 2048 where a TPM has no elliptic curves; both with SHA-256. */
export const AK_TEMPLATES: Readonly<Record<'ecc' | 'rsa', TpmPublic>> = {
  ecc: attestationKey(eccUnique('p256', 0)),
  rsa: attestationKey({ kind: 'rsa', keyBits: 2048, exponent: 0, modulus: new Uint8Array(0) }),
};

function attestationKey(key: TpmPublic['key']): TpmPublic {
  return {
    nameAlgorithm: 'sha256',
    // noDictionaryAttack: the key has an empty authorisation value, and a TPM in lockout must still attest.
    attributes: ATTESTATION_KEY | TPM_OBJECT.userWithAuth | TPM_OBJECT.noDictionaryAttack,
    authPolicy: new Uint8Array(0),
    symmetricBits: null,
    signingHash: 'sha256',
    key,
  };
}

function eccUnique(curve: TpmCurve, bytes: number): TpmPublic['key'] {
  return { kind: 'ecc', curve, x: new Uint8Array(bytes), y: new Uint8Array(bytes) };
}
