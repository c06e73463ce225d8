import type { ByteStream } from '../streams/byte-stream.ts';

/** A client that has said something and waits for what comes of it: what it says meanwhile is kept, and that it leaves is heard. One that says more is held back, and from then on not heard. */
export class WaitingClient {
  /** Settles if it ends or breaks off: nobody waits any more. */
  readonly gone: Promise<'gone'>;
  readonly #client: ByteStream;
  readonly #said: Uint8Array[];

  constructor(client: ByteStream, first: Uint8Array) {
    const { promise, resolve } = Promise.withResolvers<'gone'>();
    this.gone = promise;
    this.#client = client;
    this.#said = [first];
    client.attach({
      onData: (bytes) => {
        this.#said.push(Uint8Array.from(bytes));
        client.pause();
      },
      onEnd: () => resolve('gone'),
      onDrain: () => undefined,
      onClose: () => resolve('gone'),
    });
    client.resume();
  }

  /** All that it has said; it is paused from here on, and its next reader attaches himself. */
  take(): Uint8Array {
    this.#client.pause();
    return Buffer.concat(this.#said);
  }
}
