import { createCipheriv, createPrivateKey, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { PicketError } from '../../shared/errors/errors.ts';
import {
  derElement,
  derInteger,
  derObjectIdentifier,
  derOctetString,
  derSequence,
} from '../../shared/wire/der-writer.ts';
import { decodePem, encodePem } from '../../shared/wire/pem.ts';

/** Object identifiers of RFC 8018. */
const PBES2 = '1.2.840.113549.1.5.13';
const PBKDF2 = '1.2.840.113549.1.5.12';
const HMAC_WITH_SHA256 = '1.2.840.113549.2.9';
const AES_256_CBC = '2.16.840.1.101.3.4.1.42';
const NULL_TAG = 0x05;

const SALT_BYTES = 16;
const IV_BYTES = 16;
const KEY_BYTES = 32;

/** Rounds of PBKDF2 for a passphrase that a person chose. */
const PASSPHRASE_ROUNDS = 600_000;

const derive = promisify(pbkdf2);

/**
 * PKCS#8 as PEM `ENCRYPTED PRIVATE KEY` (RFC 5958; PBES2 of RFC 8018 with PBKDF2-HMAC-SHA256 and AES-256-CBC): what OpenSSL reads too. `rounds` may be low for a
 * passphrase of full entropy.
 */
export async function encryptPkcs8(
  pkcs8: Uint8Array,
  passphrase: string,
  rounds = PASSPHRASE_ROUNDS,
): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(IV_BYTES);
  const key = await derive(passphrase, salt, rounds, KEY_BYTES, 'sha256');
  const cipher = createCipheriv('aes-256-cbc', key, iv);
  const encrypted = Buffer.concat([cipher.update(pkcs8), cipher.final()]);
  const hmac = derSequence(derObjectIdentifier(HMAC_WITH_SHA256), derElement(NULL_TAG));
  const parameters = derSequence(derOctetString(salt), derInteger(BigInt(rounds)), hmac);
  const derivation = derSequence(derObjectIdentifier(PBKDF2), parameters);
  const encryption = derSequence(derObjectIdentifier(AES_256_CBC), derOctetString(iv));
  const algorithm = derSequence(derObjectIdentifier(PBES2), derSequence(derivation, encryption));
  return encodePem('ENCRYPTED PRIVATE KEY', derSequence(algorithm, derOctetString(encrypted)));
}

/**
 * The PKCS#8 (DER) in a PEM block `PRIVATE KEY`, or `ENCRYPTED PRIVATE KEY` with its passphrase. Throws `failed_precondition`: `key_unreadable`, or
 * `passphrase_missing` for an encrypted key without one.
 */
export function readPkcs8Pem(text: string, passphrase: string | undefined): Uint8Array {
  const [block, ...others] = decodePem(text);
  if (block === undefined || others.length > 0) throw unreadable('there is not exactly one key in it');
  if (block.label !== 'PRIVATE KEY' && block.label !== 'ENCRYPTED PRIVATE KEY')
    throw unreadable(`it holds a ${block.label}`);
  if (block.label === 'ENCRYPTED PRIVATE KEY' && passphrase === undefined)
    throw new PicketError(
      'failed_precondition',
      'passphrase_missing',
      'The private key is encrypted: its passphrase is needed',
    );
  try {
    const key = createPrivateKey({
      key: text,
      format: 'pem',
      ...(passphrase === undefined ? {} : { passphrase }),
    });
    return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }));
  } catch (cause) {
    throw unreadable('the passphrase is wrong, or the file is damaged', cause);
  }
}

function unreadable(why: string, cause?: unknown): PicketError {
  return new PicketError('failed_precondition', 'key_unreadable', `Cannot read the private key: ${why}`, {
    cause,
  });
}
