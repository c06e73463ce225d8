import type { Clock } from '../../../shared/runtime/clock.ts';
import type { ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import { StreamOver } from '../streams/stream-over.ts';
import type { ByteStream } from '../streams/byte-stream.ts';

const WORDLESS =
  'The server broke off without a word after its handshake, as one does that wants a client’s certificate';
/** Whoever wants one says so as soon as the handshake has told it that there is none. */
const WORDLESS_MS = 2000;

/**
 * A server whose handshake is over. In TLS 1.3 one that wants a client's certificate says so only then, by breaking off: that it has said nothing before, and does it soon, is all that tells it
 * from others, and whoever reads it hears so.
 */
export class MetServerStream extends StreamOver {
  readonly #clock: Clock;
  /** Undefined once it has said something. */
  #silentUntilMs: number | undefined;
  /** Hears of such a breach, and says what the reader is to hear of it. */
  onWordless: (failure: StreamFailure) => StreamFailure = (failure) => failure;

  constructor(within: ByteStream, clock: Clock) {
    super(within);
    this.#clock = clock;
  }

  /** What came before is told to the first reader at once: for him the handshake ends now. */
  override attach(reader: ByteStreamReader): void {
    this.#silentUntilMs = this.#clock.monotonicMs() + WORDLESS_MS;
    super.attach({
      onData: (bytes) => {
        this.#silentUntilMs = undefined;
        reader.onData(bytes);
      },
      onEnd: () => reader.onEnd(),
      onDrain: () => reader.onDrain(),
      onClose: (failure) => reader.onClose(failure && this.#explained(failure)),
    });
  }

  #explained(failure: StreamFailure): StreamFailure {
    const isSoon = this.#clock.monotonicMs() < (this.#silentUntilMs ?? -Infinity);
    if (!isSoon) return failure;
    return this.onWordless({ ...failure, message: WORDLESS });
  }
}
