import { decodePem, encodePem } from '../../../shared/wire/pem.ts';
import { SEEDS } from '../seeds.ts';
import { requireSame, words, type FuzzTarget } from '../target.ts';

/** PEM: the blocks that are read are read again from what they are written as. */
export const target: FuzzTarget = {
  seeds: words(SEEDS.tpm.manufacturer.root, `text\r\n${SEEDS.tpm.ekCertificates.rsa2048}`),
  dictionary: words(
    '-----BEGIN CERTIFICATE-----\n',
    '-----END CERTIFICATE-----\n',
    '-----BEGIN ',
    '-----',
    'PRIVATE KEY',
    '\r\n',
    '\n',
    '=',
    '==',
    ' ',
  ),
  maxBytes: 16_384,
  check(input) {
    const blocks = decodePem(input.toString('utf8'));
    const text = blocks.map(({ label, der }) => encodePem(label, der)).join('');
    requireSame(decodePem(text), blocks, 'blocks read again');
    return `${blocks.length} ${[...new Set(blocks.map(({ label }) => label))].join()}`;
  },
};
