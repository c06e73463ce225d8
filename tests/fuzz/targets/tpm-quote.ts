import { requireQuote } from '../../../server/node-attestation/tpm-quote.ts';
import { parseTpmQuote } from '../../../shared/wire/tpm2-attest.ts';
import { parseTpmPublic } from '../../../shared/wire/tpm2-public.ts';
import { fromHex, SEEDS } from '../seeds.ts';
import { attempt, hexWords, outcomeOfRefusal, requireThat, type FuzzTarget } from '../target.ts';

const { attestationKeys, qualifyingData, pcrs, pcrValues } = SEEDS.tpm;
const { ecc } = attestationKeys;
const QUOTE = Buffer.from(ecc.quote, 'hex');
const SIGNATURE = Buffer.from(ecc.signature, 'hex');
const EXPECTED = {
  attestationKey: parseTpmPublic(Buffer.from(ecc.public, 'hex')),
  qualifyingData: Buffer.from(qualifyingData, 'hex'),
  pcrs,
};
const VALUES: Readonly<Record<string, string>> = pcrValues;

/** TPMS_ATTEST: only the bytes that the TPM signed are ever accepted with its signature. */
export const target: FuzzTarget = {
  seeds: fromHex(ecc.quote, attestationKeys.rsa.quote),
  dictionary: hexWords(
    'ff544347',
    '8018',
    '8017',
    '00000001',
    '000b03810080',
    '000b03',
    '000403',
    '0020',
    'ffff',
    '00',
  ),
  maxBytes: 2048,
  check(input) {
    const reported = { quote: input, signature: SIGNATURE, pcrValues: pcrs.map((pcr) => VALUES[pcr] ?? '') };
    const accepted = attempt(() => requireQuote(reported, EXPECTED));
    requireThat(
      (accepted.refusal === undefined) === input.equals(QUOTE),
      'a quote that the TPM did not sign, or not the one that it did',
    );
    const { selection, extraData, pcrDigest, qualifiedSigner } = parseTpmQuote(input);
    requireThat(extraData.length <= 64 && pcrDigest.length <= 64 && qualifiedSigner.length <= 66, 'too long');
    requireThat(
      selection.every((bank) => bank.pcrs.every((pcr) => pcr < 32)),
      'there is no such PCR',
    );
    const refusal = accepted.refusal === undefined ? '' : outcomeOfRefusal(accepted.refusal);
    return `${selection.length} ${selection[0]?.pcrs.length} ${refusal}`;
  },
};
