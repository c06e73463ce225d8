/** Where an issuer's key set (RFC 7517) comes from. Port: adapters are `key-file.ts` and `key-url.ts`; `contract.ts` is the suite for each. */
export interface KeySource {
  /** Reads the set as it is now, in at most `KEY_SOURCE_LIMITS`. Rejects with `unavailable`, reason `keys_unavailable`. */
  read(): Promise<string>;
}

export const KEY_SOURCE_LIMITS = { bytes: 256 * 1024, timeoutMs: 10_000 } as const;
