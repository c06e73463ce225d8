import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { encodeRstStream } from '../../../shared/wire/http2-frame.ts';
import type { MayGoOn } from '../connections/piecewise.ts';
import type { StreamsPass } from '../connections/unjudged-streams.ts';
import type { RelayEnd } from '../relays/relay-end.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import type { Http2Application } from './application.ts';
import { HTTP2_LIMITS } from './limits.ts';
import type { Http2Refusals } from './refusals.ts';
import type { Http2Requests } from './requests.ts';
import type { Http2Responses } from './responses.ts';
import type { Http2Sides } from './sides.ts';
import { Http2StreamRound } from './stream-round.ts';
import type { Http2Streams } from './streams.ts';

export interface Http2LossesOptions {
  readonly clock: Clock;
  readonly streams: Http2Streams;
  readonly sides: Http2Sides;
  readonly refusals: Http2Refusals;
  readonly end: RelayEnd;
  readonly application: Http2Application;
  readonly requests: Pick<Http2Requests, 'passingStreamId'>;
  readonly responses: Pick<Http2Responses, 'passingStreamId'>;
  /** Looks at where what was done has led. */
  readonly afterwards: () => void;
  /** Ends the connection after a last word to the client. */
  readonly sayGoodbye: () => void;
}

/** Ends those streams of one connection that have lost their permit. */
export class Http2Losses {
  readonly #options: Http2LossesOptions;
  /** Whether the application may not have heard of all that was cut. */
  #hasCut = false;
  #watchedFlushes = -1;
  #cancelWatch = (): void => undefined;

  constructor(options: Http2LossesOptions) {
    this.#options = options;
  }

  /** A pass over all streams that are open now, which judges them one by one and cuts those whose requests `findLoss` says have lost their permit. */
  pass(findLoss: (http: DecisionHttpRequest) => StreamFailure | undefined): StreamsPass {
    const { streams } = this.#options;
    const round = new Http2StreamRound(streams);
    return {
      get count() {
        return round.count;
      },
      again: () => round.again(),
      goOn: (mayGoOn) => {
        const isDone = this.#judgePiece(round, { findLoss, mayGoOn });
        if (this.#hasCut) this.#options.afterwards();
        if (!this.#options.sides.isHeld) this.watch();
        return isDone;
      },
    };
  }

  /** A client that stops within a frame keeps from the application what it has lost: it must go on soon. To be called when all has gone that could. */
  watch(): void {
    const { clock, end, sides } = this.#options;
    const { toApplication } = sides;
    this.#hasCut &&= toApplication.waitingBytes > 0;
    if (!end.isAhead || !this.#hasCut) return;
    const { flushes } = toApplication;
    if (flushes === this.#watchedFlushes) return;
    this.#watchedFlushes = flushes;
    this.#cancelWatch();
    this.#cancelWatch = clock.schedule(HTTP2_LIMITS.cutMs, () => {
      if (toApplication.flushes === flushes) end.atOnce({ message: 'The client stopped within a frame' });
    });
  }

  /** Whatever waits may do so: nobody is read, or nobody is there any more. */
  stop(): void {
    this.#watchedFlushes = -1;
    this.#cancelWatch();
  }

  #judgePiece(
    round: Http2StreamRound,
    {
      findLoss,
      mayGoOn,
    }: {
      readonly findLoss: (http: DecisionHttpRequest) => StreamFailure | undefined;
      readonly mayGoOn: MayGoOn;
    },
  ): boolean {
    while (!round.isDone && this.#options.end.isAhead) {
      if (!mayGoOn()) return false;
      const [streamId, stream] = round.take() ?? [];
      if (streamId !== undefined && stream !== undefined && findLoss(stream.http) !== undefined)
        this.#cut(streamId);
    }
    return true;
  }

  #cut(streamId: number): void {
    const { application, refusals, requests, responses, end } = this.#options;
    // The rest of its frame would pass, and nothing but the end of the connection can come between.
    if (requests.passingStreamId === streamId || responses.passingStreamId === streamId)
      return end.atOnce({ message: 'A stream lost its permit within a frame' });
    this.#hasCut = true;
    if (application.isOpening) this.#takeBack(streamId);
    else refusals.cut(streamId, 'cancel');
  }

  /**
   * What the application was to hear is one piece while it is being connected: nothing has reached it, and nothing will. The client may try anew, on another connection,
   * what it has not lost.
   */
  #takeBack(lostId: number): void {
    const { streams, sides, sayGoodbye } = this.#options;
    for (const [streamId] of streams.open) {
      streams.close(streamId);
      sides.toClient.send(encodeRstStream(streamId, streamId === lostId ? 'cancel' : 'refused_stream'));
    }
    sides.drop();
    sayGoodbye();
  }
}
