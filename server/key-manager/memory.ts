import type { KeyManager, SigningKey } from './key-manager.ts';
import { generatePkcs8, openSoftwareKey, requireKeyName, type SoftwareKey } from './software-key.ts';

/** Keys that end with the process: for tests, and for a server that gets its keys anew at each start. */
export class MemoryKeyManager implements KeyManager {
  readonly #keys = new Map<string, SoftwareKey>();

  async generate(name: string): Promise<SigningKey> {
    return await this.importKey(name, await generatePkcs8());
  }

  async importKey(name: string, pkcs8: Uint8Array): Promise<SigningKey> {
    requireKeyName(name);
    const key = openSoftwareKey(name, pkcs8);
    this.#keys.get(name)?.retire();
    this.#keys.set(name, key);
    return await Promise.resolve(key);
  }

  async find(name: string): Promise<SigningKey | undefined> {
    requireKeyName(name);
    return await Promise.resolve(this.#keys.get(name));
  }

  async list(): Promise<readonly string[]> {
    return await Promise.resolve([...this.#keys.keys()].toSorted());
  }
}
