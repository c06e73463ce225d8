import { mmap } from 'bun';

/** The input that is being tried, in a file that two processes map: when one crashes or hangs, the other knows by which input. */
export const JOURNAL_BYTES = 1024 * 1024;

const HEAD_BYTES = 8;

/**
 * | bytes | what |
 * |---|---|
 * | 4 | iteration |
 * | 4 | length of the input |
 * | n | the input, cut to what fits |
 */
export class Journal {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** Maps a file of `JOURNAL_BYTES`. */
  constructor(path: string) {
    this.#bytes = mmap(path, { shared: true });
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
  }

  write(input: Uint8Array, iteration: number): void {
    const kept = input.subarray(0, this.#bytes.length - HEAD_BYTES);
    this.#bytes.set(kept, HEAD_BYTES);
    this.#view.setUint32(4, kept.length);
    this.#view.setUint32(0, iteration);
  }

  read(): { readonly input: Uint8Array; readonly iteration: number } {
    const length = this.#view.getUint32(4);
    return {
      input: this.#bytes.slice(HEAD_BYTES, HEAD_BYTES + length),
      iteration: this.#view.getUint32(0),
    };
  }
}
