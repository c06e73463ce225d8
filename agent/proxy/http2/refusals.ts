import { encodeRstStream, type Http2ErrorName } from '../../../shared/wire/http2-frame.ts';
import { buildHttp2Denial } from './answers.ts';
import type { Http2ResetRate } from './reset-rate.ts';
import type { Http2SettingsExchange } from './settings-exchange.ts';
import type { Http2Sides } from './sides.ts';
import type { Http2Streams } from './streams.ts';
import type { Http2Window } from './window.ts';
import type { Judgement } from '../judge/judge.ts';

export interface Http2RefusalsOptions {
  readonly sides: Http2Sides;
  readonly streams: Http2Streams;
  readonly settings: Http2SettingsExchange;
  readonly window: Http2Window;
  readonly resets: Http2ResetRate;
}

/** A stream that is to end here. */
interface EndedStream {
  readonly streamId: number;
  /** Whether the client has ended its request. */
  readonly isEnd: boolean;
}

/** Ends streams that are not to go on, towards whoever knows of them, and leaves the connection as if they had never been. */
export class Http2Refusals {
  readonly #options: Http2RefusalsOptions;

  constructor(options: Http2RefusalsOptions) {
    this.#options = options;
  }

  /** The client hears why; the rest of its request is thrown away. */
  answer(
    judgement: Judgement,
    stream: EndedStream & { readonly status: number; readonly isGrpc: boolean; readonly isHead: boolean },
  ): void {
    const { sides, streams, settings, window } = this.#options;
    const { streamId, isEnd } = stream;
    const { hasSmallTable, initialWindowBytes } = settings;
    const takesBody = (bytes: number): boolean => bytes <= initialWindowBytes && window.trySpendOurs(bytes);
    sides.toClient.send(buildHttp2Denial(judgement, { ...stream, hasSmallTable, takesBody }));
    if (isEnd) return;
    sides.toClient.send(encodeRstStream(streamId, 'no_error'));
    streams.refuse(streamId);
  }

  /** The client hears an error of the protocol. Throws `http2_enhance_your_calm` where there were too many. */
  reset({ streamId, isEnd }: EndedStream, error: Http2ErrorName): void {
    const { sides, streams, resets } = this.#options;
    resets.count();
    sides.toClient.send(encodeRstStream(streamId, error));
    if (!isEnd) streams.refuse(streamId);
  }

  /** Ends an open stream on both sides, in mid-request or mid-answer. What either side still sends on it is thrown away, and counts in no window. */
  cut(streamId: number, error: Http2ErrorName): void {
    const { sides, streams } = this.#options;
    if (streams.find(streamId)?.isRequestEnded === false) streams.refuse(streamId);
    streams.close(streamId);
    sides.toClient.send(encodeRstStream(streamId, error));
    sides.toApplication.send(encodeRstStream(streamId, 'cancel'));
  }
}
