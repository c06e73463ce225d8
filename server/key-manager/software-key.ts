import { createPrivateKey, createPublicKey, generateKeyPair, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { PicketError } from '../../shared/errors/errors.ts';
import type { SigningKey } from './key-manager.ts';

const generate = promisify(generateKeyPair);
const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** A new P-256 key as PKCS#8, DER. */
export async function generatePkcs8(): Promise<Uint8Array> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
  return new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' }));
}

/** A signing key that stands in this process's memory. Throws `invalid_argument`, reason `signing_key_refused`, unless it is on P-256. */
export function openSoftwareKey(name: string, pkcs8: Uint8Array): SigningKey {
  const key = importKey(pkcs8);
  return {
    name,
    publicKeySpki: new Uint8Array(createPublicKey(key).export({ format: 'der', type: 'spki' })),
    sign: async (data) => await Promise.resolve(new Uint8Array(sign('sha256', data, key))),
  };
}

/** Names become file names. Throws `invalid_argument`, reason `key_name_invalid`. */
export function requireKeyName(name: string): void {
  if (NAME.test(name)) return;
  throw new PicketError(
    'invalid_argument',
    'key_name_invalid',
    `"${name}" cannot name a key: small letters, digits and dashes`,
  );
}

function importKey(pkcs8: Uint8Array): ReturnType<typeof createPrivateKey> {
  const refused = (cause?: unknown): PicketError =>
    new PicketError('invalid_argument', 'signing_key_refused', 'A signing key must be an EC key on P-256', {
      cause,
    });
  try {
    const key = createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' });
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
      throw refused();
    return key;
  } catch (cause) {
    throw cause instanceof PicketError ? cause : refused(cause);
  }
}
