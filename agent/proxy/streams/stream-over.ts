import type { ByteStream, ByteStreamReader, StreamFailure } from './byte-stream.ts';

/** A stream that is another one, but for what a subclass does otherwise. */
export class StreamOver implements ByteStream {
  readonly #within: ByteStream;

  constructor(within: ByteStream) {
    this.#within = within;
  }

  attach(reader: ByteStreamReader): void {
    this.#within.attach(reader);
  }

  write(bytes: Uint8Array): boolean {
    return this.#within.write(bytes);
  }

  end(): void {
    this.#within.end();
  }

  abort(failure?: StreamFailure): void {
    this.#within.abort(failure);
  }

  pause(): void {
    this.#within.pause();
  }

  resume(): void {
    this.#within.resume();
  }
}
