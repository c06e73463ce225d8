import { ByteReader } from './byte-reader.ts';
import { invalidStructure } from './tpm2-algorithms.ts';
import { readSized } from './tpm2-buffer.ts';
import { type PcrBankSelection, readPcrSelection } from './tpm2-pcr-selection.ts';

/** What TPM2_Quote signs: TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (Part 2, 10.12.12). */
export interface TpmQuote {
  /** Name of the signing key, qualified with its ancestors. */
  readonly qualifiedSigner: Uint8Array;
  /** The caller's qualifyingData. */
  readonly extraData: Uint8Array;
  /** How often the TPM was reset and restarted. */
  readonly resetCount: number;
  readonly restartCount: number;
  readonly firmwareVersion: bigint;
  readonly selection: readonly PcrBankSelection[];
  readonly pcrDigest: Uint8Array;
}

/** TPM_GENERATED_VALUE: a restricted key never signs foreign data that begins with it. */
const TPM_GENERATED = 0xff54_4347;
const ST_ATTEST_QUOTE = 0x8018;
const MAX_NAME_BYTES = 66;
const MAX_DIGEST_BYTES = 64;

/**
 * Reads a whole TPMS_ATTEST that is a quote. Anything not made by the TPM (magic) or of another type is `tpm_structure_invalid`.
 *
 *     4  magic            ff 54 43 47
 *     2  type             80 18
 *   2+n  qualifiedSigner
 *   2+n  extraData
 *    17  clockInfo        8 clock, 4 resetCount, 4 restartCount, 1 safe
 *     8  firmwareVersion
 *     …  pcrSelect
 *   2+n  pcrDigest
 */
export function parseTpmQuote(bytes: Uint8Array): TpmQuote {
  const reader = new ByteReader(bytes);
  if (reader.u32() !== TPM_GENERATED) throw invalidStructure('attestation: it was not made by a TPM');
  if (reader.u16() !== ST_ATTEST_QUOTE) throw invalidStructure('attestation: it is not a quote');
  const qualifiedSigner = readSized(reader, MAX_NAME_BYTES);
  const extraData = readSized(reader, MAX_DIGEST_BYTES);
  reader.u64();
  const resetCount = reader.u32();
  const restartCount = reader.u32();
  reader.u8();
  const firmwareVersion = reader.u64();
  const selection = readPcrSelection(reader);
  const pcrDigest = readSized(reader, MAX_DIGEST_BYTES);
  reader.requireEnd();
  return { qualifiedSigner, extraData, resetCount, restartCount, firmwareVersion, selection, pcrDigest };
}
