/** A key of the server, by the name under which it is kept. */
export interface SigningKey {
  readonly name: string;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
  /**
   * ECDSA P-256 with SHA-256 over `data`; the signature in DER. Rejects with `unavailable` when the key cannot be used now, and with
   * `failed_precondition`, reason `key_replaced`, once another took its name.
   */
  sign(data: Uint8Array): Promise<Uint8Array>;
}

/**
 * Keeps the server's keys. Port: adapters are `memory.ts` and `encrypted-disk.ts`; the private half never leaves the adapter. Names are small letters, digits and
 * dashes; another one is refused with `invalid_argument`, reason `key_name_invalid`.
 */
export interface KeyManager {
  /** Makes a P-256 key under `name`, replacing one of that name: the old one can no longer sign. */
  generate(name: string): Promise<SigningKey>;
  /** Takes in an existing P-256 key (PKCS#8 DER), as `picket ca init` hands over the intermediate's, like `generate`. Other keys: `invalid_argument`, reason `signing_key_refused`. */
  importKey(name: string, pkcs8: Uint8Array): Promise<SigningKey>;
  /** The key of that name, or undefined. One that is there and cannot be read is an error (`failed_precondition`), never undefined. */
  find(name: string): Promise<SigningKey | undefined>;
  /** The names of all keys. */
  list(): Promise<readonly string[]>;
}
