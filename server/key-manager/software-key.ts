import { createPrivateKey, createPublicKey, generateKeyPair, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { PicketError } from '../../shared/errors/errors.ts';
import type { SigningKey } from './key-manager.ts';

const generate = promisify(generateKeyPair);
const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const PROBE = Buffer.from('picket');

/** A new P-256 key as PKCS#8, DER. */
export async function generatePkcs8(): Promise<Uint8Array> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
  return new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' }));
}

/** A signing key of an adapter that holds its keys in memory. */
export interface SoftwareKey extends SigningKey {
  /** From now on it signs nothing. */
  retire(): void;
}

/** A signing key that stands in this process's memory. Throws `invalid_argument`, reason `signing_key_refused`, unless it is on P-256 and whole. */
export function openSoftwareKey(name: string, pkcs8: Uint8Array): SoftwareKey {
  const key = importKey(pkcs8);
  let isRetired = false;
  return {
    name,
    publicKeySpki: new Uint8Array(createPublicKey(key).export({ format: 'der', type: 'spki' })),
    sign: async (data) => {
      if (isRetired)
        throw new PicketError(
          'failed_precondition',
          'key_replaced',
          `Another key "${name}" replaced this one`,
        );
      return await Promise.resolve(new Uint8Array(sign('sha256', data, key)));
    },
    retire: () => {
      isRetired = true;
    },
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
    // The public half in the file may belong to another private one: such a key would sign what nobody can verify.
    if (!verify('sha256', PROBE, createPublicKey(key), sign('sha256', PROBE, key))) throw refused();
    return key;
  } catch (cause) {
    throw cause instanceof PicketError ? cause : refused(cause);
  }
}
