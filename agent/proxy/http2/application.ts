import { toPicketError } from '../../../shared/errors/errors.ts';
import { encodeRstStream } from '../../../shared/wire/http2-frame.ts';
import type { RelayEnd } from '../relays/relay-end.ts';
import { asBuffer } from '../streams/as-buffer.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import type { Http2Refusals } from './refusals.ts';
import type { Http2RelayOptions } from './relay-options.ts';
import type { Http2Responses } from './responses.ts';
import type { Http2Sides } from './sides.ts';
import type { Http2Streams } from './streams.ts';

const BAD_GATEWAY = 502;

export interface Http2ApplicationOptions extends Pick<Http2RelayOptions, 'openApplication' | 'refuse'> {
  readonly streams: Http2Streams;
  readonly sides: Http2Sides;
  readonly responses: Http2Responses;
  readonly refusals: Http2Refusals;
  readonly end: RelayEnd;
  /** Looks at where what was done has led. To be called after everything that was read. */
  readonly afterwards: () => void;
  /** It takes more. */
  readonly onDrain: () => void;
  /** Ends the connection after a last word to the client. */
  readonly sayGoodbye: () => void;
}

/** The application behind one relay: connected when it is first needed, and heard until it has ended or failed. */
export class Http2Application {
  readonly #options: Http2ApplicationOptions;
  #isOpening = false;
  #isClientEnded = false;

  constructor(options: Http2ApplicationOptions) {
    this.#options = options;
  }

  /** Whether it is being connected. */
  get isOpening(): boolean {
    return this.#isOpening;
  }

  /** Connects to it, unless it is connected or is being connected. */
  reach(): void {
    if (this.#options.sides.application === undefined && !this.#isOpening) void this.#open();
  }

  /** It is connected. */
  adopt(stream: ByteStream): void {
    const { end, sides } = this.#options;
    end.sideOpened();
    sides.adopt(stream, this.#reader);
    stream.resume();
  }

  /** Runs `work`, which reads the application, and looks at where that led. */
  read(work: () => void): void {
    const { end, afterwards } = this.#options;
    if (!end.isAhead) return;
    try {
      work();
    } catch (error) {
      this.#fail(toPicketError(error).message);
    }
    afterwards();
  }

  /** The client has ended. It still gets its answers; whoever has none to come is done. */
  clientEnded(): void {
    const { end, sides } = this.#options;
    this.#isClientEnded = true;
    if (!end.isAhead) return;
    if (sides.application === undefined && !this.#isOpening) end.inOrder();
    else sides.application?.end();
  }

  readonly #reader: ByteStreamReader = {
    onData: (bytes) => this.read(() => this.#options.responses.take(asBuffer(bytes))),
    onEnd: () => this.#onEnd(),
    onDrain: () => {
      this.#options.sides.applicationDrained();
      this.#options.onDrain();
    },
    onClose: (failure) => this.#onClose(failure),
  };

  async #open(): Promise<void> {
    const { openApplication, end, sides, afterwards } = this.#options;
    this.#isOpening = true;
    let stream: ByteStream;
    try {
      stream = await openApplication();
    } catch (error) {
      this.#isOpening = false;
      return this.read(() => {
        throw error;
      });
    }
    // As long as it has heard nothing, what is being judged again may be taken back.
    while (sides.released !== undefined) await sides.released;
    this.#isOpening = false;
    if (!end.isAhead) return stream.abort();
    this.adopt(stream);
    if (this.#isClientEnded) stream.end();
    afterwards();
  }

  /** It cannot be reached, broke off, or does not speak HTTP/2. Whoever waits for its first word hears that. */
  #fail(message: string): void {
    const { end, responses, streams, sides, refusals, refuse, sayGoodbye } = this.#options;
    if (!end.isAhead) return;
    if (!responses.isAtBoundary) return end.atOnce({ message });
    for (const [streamId, stream] of streams.open) {
      const { http, isGrpc, isRequestEnded: isEnd } = stream;
      const judgement = refuse({ reason: 'application_unreachable', message, http });
      const isHead = http.method === 'HEAD';
      if (stream.isAnswered) sides.toClient.send(encodeRstStream(streamId, 'internal_error'));
      else refusals.answer(judgement, { streamId, isEnd, status: BAD_GATEWAY, isGrpc, isHead });
    }
    if (sides.application !== undefined) end.sideDropped();
    sides.drop();
    sayGoodbye();
  }

  #onEnd(): void {
    const { end, streams, afterwards } = this.#options;
    if (!end.isAhead) return;
    if (streams.openCount > 0 && !this.#isClientEnded) this.#fail('The application ended within an answer');
    else end.inOrder();
    afterwards();
  }

  #onClose(failure: StreamFailure | undefined): void {
    const { end, afterwards } = this.#options;
    if (failure === undefined || end.isEnding) return end.sideClosed();
    this.#fail(failure.message);
    afterwards();
  }
}
