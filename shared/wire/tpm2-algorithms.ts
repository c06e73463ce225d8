import { PicketError } from '../errors/errors.ts';

/** The TPM_ALG_ID values that Picket speaks (TCG Algorithm Registry, table 3). */
export const TPM_ALG = {
  rsa: 0x0001,
  aes: 0x0006,
  sha256: 0x000b,
  sha384: 0x000c,
  null: 0x0010,
  rsassa: 0x0014,
  ecdsa: 0x0018,
  ecc: 0x0023,
  cfb: 0x0043,
} as const;

/** Hash algorithms of names, schemes and PCR banks. */
const HASHES = {
  sha256: { id: TPM_ALG.sha256, bytes: 32 },
  sha384: { id: TPM_ALG.sha384, bytes: 48 },
} as const;

/** Curves of endorsement and attestation keys: the TPM's id, the names that node:crypto knows them by, and the size of a coordinate. */
const CURVES = {
  p256: { id: 0x0003, jwkName: 'P-256', opensslName: 'prime256v1', bytes: 32 },
  p384: { id: 0x0004, jwkName: 'P-384', opensslName: 'secp384r1', bytes: 48 },
} as const;

export type TpmHash = keyof typeof HASHES;
export type TpmCurve = keyof typeof CURVES;

export function hashFacts(hash: TpmHash): (typeof HASHES)[TpmHash] {
  return HASHES[hash];
}

export function curveFacts(curve: TpmCurve): (typeof CURVES)[TpmCurve] {
  return CURVES[curve];
}

/** The hash of a TPM_ALG_ID; SHA-1 and whatever else is not listed is refused. */
export function requireTpmHash(id: number): TpmHash {
  if (id === HASHES.sha256.id) return 'sha256';
  if (id === HASHES.sha384.id) return 'sha384';
  throw unsupportedStructure(`hash algorithm ${hex(id)}`);
}

/** The curve of a TPM_ECC_CURVE. */
export function requireTpmCurve(id: number): TpmCurve {
  if (id === CURVES.p256.id) return 'p256';
  if (id === CURVES.p384.id) return 'p384';
  throw unsupportedStructure(`curve ${hex(id)}`);
}

/** `invalid_argument`, reason `tpm_structure_unsupported`: well formed perhaps, but nothing that Picket accepts. */
export function unsupportedStructure(what: string): PicketError {
  return new PicketError('invalid_argument', 'tpm_structure_unsupported', `Cannot accept the TPM's ${what}`);
}

/** `invalid_argument`, reason `tpm_structure_invalid`. */
export function invalidStructure(what: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'tpm_structure_invalid', `Cannot read the TPM's ${what}`, {
    cause,
  });
}

function hex(id: number): string {
  return `0x${id.toString(16).padStart(4, '0')}`;
}
