import { parseTpmPublic } from '../../../shared/wire/tpm2-public.ts';
import { isTpmSignatureValid, parseTpmSignature } from '../../../shared/wire/tpm2-signature.ts';
import { fromHex, SEEDS } from '../seeds.ts';
import { hexWords, requireThat, type FuzzTarget } from '../target.ts';

const { ecc, rsa } = SEEDS.tpm.attestationKeys;
const KEYS = [ecc, rsa].map((key) => ({
  area: parseTpmPublic(Buffer.from(key.public, 'hex')),
  otherMessage: Buffer.concat([Buffer.from(key.quote, 'hex'), Uint8Array.of(0)]),
  message: Buffer.from(key.quote, 'hex'),
}));

/** TPMT_SIGNATURE: whatever it holds, verifying it answers, and never yes for another message. */
export const target: FuzzTarget = {
  seeds: fromHex(ecc.signature, rsa.signature),
  dictionary: hexWords('0018', '0014', '000b', '000c', '0004', '0020', '0000', '00', '0100', 'ffff'),
  maxBytes: 1200,
  check(input) {
    const signature = parseTpmSignature(input);
    const answers = KEYS.map(({ area, message, otherMessage }) => {
      requireThat(
        !isTpmSignatureValid(area, { message: otherMessage, signature }),
        'valid for another message',
      );
      return isTpmSignatureValid(area, { message, signature });
    });
    return `${signature.kind} ${signature.hash} ${answers.join()}`;
  },
};
