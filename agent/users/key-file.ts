import { open } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import { KEY_SOURCE_LIMITS, type KeySource } from './key-source.ts';

/** A key set in a file of this host. */
export class KeyFile implements KeySource {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async read(): Promise<string> {
    try {
      await using file = await open(this.#path);
      const bytes = Buffer.alloc(KEY_SOURCE_LIMITS.bytes + 1);
      let length = 0;
      for (;;) {
        const { bytesRead } = await file.read(bytes, length, bytes.length - length);
        length += bytesRead;
        if (bytesRead === 0 || length === bytes.length) break;
      }
      if (length > KEY_SOURCE_LIMITS.bytes)
        throw new RangeError(`it is longer than ${KEY_SOURCE_LIMITS.bytes} bytes`);
      return bytes.toString('utf8', 0, length);
    } catch (cause) {
      const why = cause instanceof RangeError ? `: ${cause.message}` : '';
      throw new PicketError(
        'unavailable',
        'keys_unavailable',
        `Cannot read the keys from ${this.#path}${why}`,
        { cause },
      );
    }
  }
}
