import { createHash } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  computeTpmName,
  hasAttributes,
  parseTpmPublic,
  spkiOf,
  TPM_OBJECT,
  type TpmPublic,
} from '../../shared/wire/tpm2-public.ts';
import { ATTESTATION_KEY, ENDORSEMENT_KEY } from '../../shared/wire/tpm2-templates.ts';

/** A host's endorsement key, by what it says of itself: only the activation of a credential proves it. */
export interface ClaimedEndorsementKey {
  readonly area: TpmPublic;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** SHA-256 of it, in hexadecimal: what operators approve. */
  readonly hash: string;
}

export interface ClaimedAttestationKey {
  readonly area: TpmPublic;
  /** The Name, to which the credential is bound. */
  readonly name: Uint8Array;
}

/**
 * Reads the public area of an endorsement key. One that is not a storage key of its TPM by a default template's algorithms is `permission_denied`,
 * reason `ek_unsuitable`; malformed ones as `parseTpmPublic`.
 */
export function requireEndorsementKey(bytes: Uint8Array): ClaimedEndorsementKey {
  const area = parseTpmPublic(bytes);
  const bits = area.nameAlgorithm === 'sha256' ? 128 : 256;
  const isSuitable =
    hasAttributes(area, { required: ENDORSEMENT_KEY, forbidden: TPM_OBJECT.sign }) &&
    area.symmetricBits === bits &&
    area.signingHash === null;
  if (!isSuitable)
    throw new PicketError(
      'permission_denied',
      'ek_unsuitable',
      'The endorsement key is not a restricted decryption key that is fixed to its TPM',
    );
  const spki = spkiOf(area);
  return { area, spki, hash: createHash('sha256').update(spki).digest('hex') };
}

/**
 * Reads the public area of an attestation key: made in the TPM, never to leave it, signing only what the TPM itself said (restricted), with ECDSA P-256
 * or RSASSA 2048. Otherwise `permission_denied`, reason `ak_unsuitable`. A TPM loads no key that claims these attributes and was made elsewhere.
 */
export function requireAttestationKey(bytes: Uint8Array): ClaimedAttestationKey {
  const area = parseTpmPublic(bytes);
  const isStrong = area.key.kind === 'ecc' ? area.key.curve === 'p256' : area.key.keyBits === 2048;
  const isSuitable =
    hasAttributes(area, { required: ATTESTATION_KEY, forbidden: TPM_OBJECT.decrypt }) &&
    area.signingHash !== null &&
    area.symmetricBits === null &&
    isStrong;
  if (!isSuitable)
    throw new PicketError(
      'permission_denied',
      'ak_unsuitable',
      'The attestation key is not a restricted signing key that was made in its TPM and is fixed to it',
    );
  return { area, name: computeTpmName(bytes) };
}
