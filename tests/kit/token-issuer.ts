import { constants, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';

interface IssuedKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly algorithm: string;
}

/** Signs user tokens (JWT) with keys of its own, good ones and whatever a test wants to be wrong with them. */
export class TokenIssuer {
  readonly issuer: string;
  #keys: IssuedKey[] = [];

  constructor(issuer: string) {
    this.issuer = issuer;
  }

  /** Makes a key; what is signed from now on is signed by it. */
  addKey(kid: string, algorithm: 'ES256' | 'RS256' | 'PS256' | 'EdDSA' = 'ES256'): void {
    const pair =
      algorithm === 'ES256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : algorithm === 'EdDSA'
          ? generateKeyPairSync('ed25519')
          : generateKeyPairSync('rsa', { modulusLength: 2048 });
    this.#keys = [...this.#keys, { kid, algorithm, ...pair }];
  }

  removeKey(kid: string): void {
    this.#keys = this.#keys.filter((key) => key.kid !== kid);
  }

  /** The public halves (RFC 7517). */
  get keySet(): string {
    const keys = this.#keys.map(({ publicKey, kid, algorithm }) => ({
      ...publicKey.export({ format: 'jwk' }),
      kid,
      use: 'sig',
      alg: algorithm,
    }));
    return JSON.stringify({ keys });
  }

  /** The public key of a `kid`, in PEM: what an attacker knows. */
  publicPem(kid: string): string {
    return this.#find(kid).publicKey.export({ type: 'spki', format: 'pem' });
  }

  /** A token for `sub` with these claims over the usual ones, and these header fields. `undefined` leaves one out. */
  sign(
    claims: Readonly<Record<string, unknown>>,
    header: Readonly<Record<string, unknown>> & { readonly kid?: string } = {},
  ): string {
    const key = this.#find(header.kid);
    const nowSeconds = Math.floor(Date.now() / 1000);
    const usual = { iss: this.issuer, aud: 'shop', iat: nowSeconds, exp: nowSeconds + 3600 };
    const input = [
      { alg: key.algorithm, typ: 'JWT', kid: key.kid, ...header },
      { ...usual, ...claims },
    ]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    return `${input}.${signatureOf(key, input).toString('base64url')}`;
  }

  #find(kid?: string): IssuedKey {
    const key = this.#keys.find((each) => each.kid === kid) ?? this.#keys.at(-1);
    if (key === undefined) throw new Error('The issuer has no key');
    return key;
  }
}

function signatureOf({ algorithm, privateKey: key }: IssuedKey, input: string): Buffer {
  const bytes = Buffer.from(input);
  if (algorithm === 'ES256') return sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' });
  if (algorithm === 'EdDSA') return sign(null, bytes, key);
  if (algorithm === 'RS256') return sign('sha256', bytes, key);
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_DIGEST: saltLength } = constants;
  return sign('sha256', bytes, { key, padding, saltLength });
}
