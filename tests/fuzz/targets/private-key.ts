import { readPkcs8Pem } from '../../../server/key-manager/encrypted-pkcs8.ts';
import { openSoftwareKey } from '../../../server/key-manager/software-key.ts';
import { SEEDS } from '../seeds.ts';
import { attempt, hexWords, outcomeOfRefusal, requireThat, words, type FuzzTarget } from '../target.ts';

const MAX_PKCS8_BYTES = 16 * 1024;

/** Private keys in PEM, as they come from the ceremony's folder: a key that is taken is on P-256, whole, and signs. */
export const target: FuzzTarget = {
  seeds: words(...SEEDS.privateKeys),
  dictionary: [
    ...words(
      '-----BEGIN PRIVATE KEY-----\n',
      '-----END PRIVATE KEY-----\n',
      '-----BEGIN ENCRYPTED PRIVATE KEY-----\n',
      '-----BEGIN EC PRIVATE KEY-----\n',
      'Proc-Type: 4,ENCRYPTED\n',
      'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg',
      '=',
    ),
    ...hexWords('00', '0d0a'),
  ],
  maxBytes: 4096,
  check: (input) =>
    [undefined, 'passphrase'].map((passphrase) => wayOf(input.toString('latin1'), passphrase)).join(' | '),
};

function wayOf(pem: string, passphrase: string | undefined): string {
  const { value: pkcs8, refusal } = attempt(() => readPkcs8Pem(pem, passphrase));
  if (pkcs8 === undefined) return outcomeOfRefusal(refusal);
  requireThat(pkcs8.length > 0 && pkcs8.length < MAX_PKCS8_BYTES, 'a key of an odd length');
  const key = attempt(() => openSoftwareKey('fuzzed', pkcs8));
  return key.refusal === undefined ? 'a key' : outcomeOfRefusal(key.refusal);
}
