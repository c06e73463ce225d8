import { ByteReader } from '../../../shared/wire/byte-reader.ts';
import { parseTpmResponse } from '../../../shared/wire/tpm2-command.ts';
import { readPcrSelection } from '../../../shared/wire/tpm2-pcr-selection.ts';
import { fromHex, SEEDS } from '../seeds.ts';
import { attempt, hexWords, outcomeOfRefusal, requireThat, type FuzzTarget } from '../target.ts';

const { ecc, rsa } = SEEDS.tpm.attestationKeys;

/** Responses of a TPM device: never more parameters than bytes. */
export const target: FuzzTarget = {
  seeds: fromHex(
    ecc.quoteResponse,
    rsa.quoteResponse,
    '80010000000a00000101',
    '80010000000e0000000080000001',
  ),
  dictionary: hexWords(
    '8001',
    '8002',
    '0000000a',
    '00000000',
    '00000101',
    'ffffffff',
    '00001000',
    '00000001000b03ffffff',
  ),
  maxBytes: 5000,
  check: (input) => [false, true].map((hasHandle) => wayOf(input, hasHandle)).join(' | '),
};

function wayOf(input: Buffer, hasHandle: boolean): string {
  const { value: response, refusal } = attempt(() => parseTpmResponse(input, { hasHandle }));
  if (response === undefined) return refusal === undefined ? '' : outcomeOfRefusal(refusal);
  if (!response.isSuccess) {
    requireThat(response.responseCode !== 0, 'a failure without a code');
    return 'failed';
  }
  requireThat(response.parameters.length <= input.length - 10, 'more parameters than bytes');
  const selection = attempt(() => readPcrSelection(new ByteReader(response.parameters)));
  return `${response.parameters.length > 0} ${selection.value?.length}`;
}
