import { readCsr } from '../../../server/ca/csr.ts';
import { parsePublicKey } from '../../../shared/spiffe/public-key.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { hexWords, type FuzzTarget } from '../target.ts';

/** Requests for certificates: what is taken holds a key that is accepted. */
export const target: FuzzTarget = {
  seeds: fromBase64(...SEEDS.csrs),
  dictionary: hexWords('3000', 'a000', '020100', '0500', '03020000', '06082a8648ce3d030107', '06032b6570'),
  maxBytes: 8300,
  check: (input) => parsePublicKey(readCsr(input).publicKeySpki).keyType,
};
