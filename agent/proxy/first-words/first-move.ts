import type { Clock } from '../../../shared/runtime/clock.ts';
import { isHttp2Server, type FirstBytes } from '../../../shared/wire/http1-detect.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';

/** Who makes the first move on a connection whose protocol is not known, and what it is. Bytes are those that were read and not passed on. */
export type FirstMove =
  | { readonly kind: 'http1'; readonly bytes: Uint8Array }
  /** The application may have said its part already: it need not wait for the client's. */
  | { readonly kind: 'http2'; readonly bytes: Uint8Array; readonly spoken: Uint8Array }
  /** No request. `spoken` came from the application meanwhile. */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly spoken: Uint8Array }
  /** The client fell silent, at once or within what may become a request line. */
  | { readonly kind: 'silence'; readonly bytes: Uint8Array }
  /** The application spoke, or ended, before the client said anything that tells. */
  | { readonly kind: 'application'; readonly bytes: Uint8Array; readonly spoken: Uint8Array }
  /** The client ended before it said anything that tells. */
  | { readonly kind: 'end'; readonly bytes: Uint8Array }
  | { readonly kind: 'broken'; readonly failure: StreamFailure };

export interface FirstMoveOptions {
  readonly client: ByteStream;
  /** Listened to as well, where it is connected already. */
  readonly application?: ByteStream;
  readonly clock: Clock;
  /** How long the client may be silent: from the start if there is no application that may speak first, otherwise once it has begun. */
  readonly silenceMs: number;
  /** What the client's bytes are. */
  readonly classify: (bytes: Buffer) => FirstBytes;
}

/** More than a server of HTTP/2 says to somebody whom it does not know. */
const MAX_SPOKEN_BYTES = 64 * 1024;

/** Reads until it is clear what a connection carries. Both streams are paused then, and their next readers attach themselves. */
export async function awaitFirstMove(options: FirstMoveOptions): Promise<FirstMove> {
  const { client, application, clock, silenceMs, classify } = options;
  const { promise, resolve } = Promise.withResolvers<FirstMove>();
  let read = Buffer.alloc(0);
  /** What a server of HTTP/2 has said: it counts once the client has spoken too, whose requests are decided. */
  let spoken = Buffer.alloc(0);
  let isSettled = false;
  let cancel: (() => void) | undefined;
  const settle = (move: FirstMove): void => {
    if (isSettled) return;
    isSettled = true;
    cancel?.();
    client.pause();
    application?.pause();
    resolve(move);
  };
  const watchSilence = (): void => {
    cancel ??= clock.schedule(silenceMs, () => settle({ kind: 'silence', bytes: read }));
  };
  const take = (bytes: Uint8Array): void => {
    read = Buffer.concat([read, bytes]);
    // What comes after the move is settled waits with it: the streams are paused, but a chunk may be on its way.
    if (isSettled) return;
    const first = classify(read);
    if (first === 'incomplete') return watchSilence();
    if (first === 'http1') settle({ kind: 'http1', bytes: read });
    else settle({ kind: first === 'other' ? 'bytes' : 'http2', bytes: read, spoken });
  };
  const takeSpoken = (bytes: Uint8Array): void => {
    spoken = Buffer.concat([spoken, bytes]);
    const isWaiting = isHttp2Server(spoken) && spoken.length <= MAX_SPOKEN_BYTES;
    if (!isWaiting) settle({ kind: 'application', bytes: read, spoken });
  };
  if (application === undefined) watchSilence();
  client.attach(
    readerOf({
      onData: take,
      onEnd: () => settle({ kind: 'end', bytes: read }),
      onBroken: (failure) => settle({ kind: 'broken', failure }),
    }),
  );
  application?.attach(
    readerOf({
      onData: takeSpoken,
      onEnd: () => settle({ kind: 'application', bytes: read, spoken }),
      onBroken: (failure) => settle({ kind: 'broken', failure }),
    }),
  );
  return await promise;
}

function readerOf(events: {
  readonly onData: (bytes: Uint8Array) => void;
  readonly onEnd: () => void;
  readonly onBroken: (failure: StreamFailure) => void;
}): ByteStreamReader {
  return {
    onData: events.onData,
    onEnd: events.onEnd,
    onDrain: () => undefined,
    onClose: (failure) => {
      if (failure === undefined) events.onEnd();
      else events.onBroken(failure);
    },
  };
}
