import { createPrivateKey } from 'node:crypto';
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

/** A fresh P-256 key with a request for its certificate. */
export interface ClientKey {
  /** PKCS#8, PEM. */
  readonly privateKeyPem: string;
  /** PKCS#10, DER. */
  readonly csr: Uint8Array;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Makes a key on this machine; only the request leaves it. */
export async function generateClientKey(): Promise<ClientKey> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'O=Picket',
    keys,
    signingAlgorithm: ALGORITHM,
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey));
  const privateKeyPem = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }).export({
    format: 'pem',
    type: 'pkcs8',
  });
  return { privateKeyPem, csr: new Uint8Array(request.rawData) };
}
