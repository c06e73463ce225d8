import { buildTpmPublic, computeTpmName, parseTpmPublic, spkiOf } from '../../../shared/wire/tpm2-public.ts';
import { fromHex, SEEDS } from '../seeds.ts';
import { attempt, hexWords, outcomeOfRefusal, requireSame, type FuzzTarget } from '../target.ts';

const { endorsementKeys, attestationKeys } = SEEDS.tpm;

/** TPMT_PUBLIC: written again byte for byte, since a key's name is the hash of these bytes. */
export const target: FuzzTarget = {
  seeds: fromHex(...Object.values(endorsementKeys), attestationKeys.ecc.public, attestationKeys.rsa.public),
  dictionary: hexWords(
    '0001',
    '0023',
    '000b',
    '000c',
    '0004',
    '0010',
    '0014',
    '0018',
    '0006008000430010',
    '00000000',
    '00010001',
    '0800',
    '0c00',
    'ffff',
  ),
  maxBytes: 1024,
  check(input) {
    const area = parseTpmPublic(input);
    requireSame(Buffer.from(buildTpmPublic(area)), input, 'a public area written again');
    requireSame(
      computeTpmName(input).length,
      area.nameAlgorithm === 'sha256' ? 34 : 50,
      'length of the name',
    );
    const key = attempt(() => spkiOf(area));
    const way = key.refusal === undefined ? 'a key' : outcomeOfRefusal(key.refusal);
    return `${area.key.kind} ${area.nameAlgorithm} ${area.symmetricBits} ${area.signingHash} ${way}`;
  },
};
