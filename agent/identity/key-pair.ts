import { createPublicKey, createPrivateKey, generateKeyPair, sign } from 'node:crypto';
import { promisify } from 'node:util';
import {
  derBitString,
  derElement,
  derInteger,
  derObjectIdentifier,
  derSequence,
} from '../../shared/wire/der-writer.ts';
import { constructedContextTag } from '../../shared/wire/der-tag.ts';

/** A P-256 key of this host. */
export interface KeyPair {
  /** PKCS#8, DER. */
  readonly privateKeyPkcs8: Uint8Array;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
}

const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';

const generate = promisify(generateKeyPair);

/** Makes a P-256 key off the event loop. */
export async function generateP256Key(): Promise<KeyPair> {
  const { privateKey, publicKey } = await generate('ec', { namedCurve: 'P-256' });
  return {
    privateKeyPkcs8: new Uint8Array(privateKey.export({ format: 'der', type: 'pkcs8' })),
    publicKeySpki: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' })),
  };
}

/**
 * A PKCS#10 request (RFC 2986) in DER with an empty subject and no attributes: it conveys the public key and proves that we
 * hold the private one; what the certificate says is for the server to decide.
 */
export function buildCsr(keyPair: KeyPair): Uint8Array {
  const info = derSequence(
    derInteger(0n),
    derSequence(),
    keyPair.publicKeySpki,
    derElement(constructedContextTag(0)),
  );
  const signature = sign('sha256', info, toPrivateKey(keyPair.privateKeyPkcs8));
  return derSequence(info, derSequence(derObjectIdentifier(ECDSA_WITH_SHA256)), derBitString(signature));
}

/** The public half of a private key, as SubjectPublicKeyInfo in DER. Throws when the bytes are no key. */
export function publicKeyOf(privateKeyPkcs8: Uint8Array): Uint8Array {
  const key = createPublicKey(toPrivateKey(privateKeyPkcs8));
  return new Uint8Array(key.export({ format: 'der', type: 'spki' }));
}

function toPrivateKey(pkcs8: Uint8Array): ReturnType<typeof createPrivateKey> {
  return createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' });
}
