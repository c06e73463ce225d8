import { toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeGoAway,
  encodeRstStream,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  HTTP2_ERROR,
  MAX_31_BITS,
  type Http2ErrorName,
} from '../../shared/wire/http2-frame.ts';
import { encodeSettings } from '../../shared/wire/http2-settings.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from './byte-stream.ts';
import { ForeseenEnd } from './foreseen-end.ts';
import { Http1RelayTimer, PHASE_MS, type TimedPhase } from './http1-relay-timer.ts';
import { Http2Greeting } from './http2-greeting.ts';
import { HTTP2_LIMITS } from './http2-limits.ts';
import { Http2Preparer, type Prepared, type PreparedHttp2Request } from './http2-prepared.ts';
import type { Http2RelayOptions } from './http2-relay-options.ts';
import { Http2Requests, type Http2RequestEvents } from './http2-requests.ts';
import { Http2Refusals } from './http2-refusals.ts';
import { Http2ResetRate } from './http2-reset-rate.ts';
import { Http2Responses, type Http2ResponseEvents } from './http2-responses.ts';
import { Http2SettingsExchange, OWN_SETTINGS } from './http2-settings-exchange.ts';
import { Http2Sides } from './http2-sides.ts';
import { Http2Streams } from './http2-streams.ts';
import { Http2Window } from './http2-window.ts';

const STATUS = { badGateway: 502 } as const;

interface NewRequest {
  readonly streamId: number;
  readonly isEnd: boolean;
  readonly prepared: Prepared;
}

/**
 * Relays HTTP/2 between a client and an application, frame by frame: one connection there for each one here, with the same streams, windows and settings. Each
 * request is decided by itself on its header block; refused ones are answered here, and the application sees only what was allowed, with the caller's identity
 * attached. Until a request is allowed the application is told nothing, and we alone speak HTTP/2 with the client.
 */
export class Http2Relay {
  readonly #options: Http2RelayOptions;
  readonly #streams = new Http2Streams();
  readonly #window = new Http2Window();
  readonly #settings = new Http2SettingsExchange();
  readonly #resets: Http2ResetRate;
  readonly #requests: Http2Requests;
  readonly #responses: Http2Responses;
  readonly #preparer: Http2Preparer;
  readonly #sides: Http2Sides;
  readonly #greeting: Http2Greeting;
  readonly #refusals: Http2Refusals;
  readonly #timer: Http1RelayTimer;
  readonly #cancelForeseen: readonly (() => void)[];
  #isOpening = false;
  /** Whether the client was told that no further request is taken. */
  #isLeaving = false;
  #isEnding = false;
  #isClientEnded = false;
  #isOver = false;
  #openSides = 1;
  /** Whether requests that were read wait for room. */
  #isTurnDue = false;
  #watchedFlushes = -1;
  #cancelCutWatch = (): void => undefined;

  constructor(options: Http2RelayOptions) {
    this.#options = options;
    const { client, clock } = options;
    this.#timer = new Http1RelayTimer(clock);
    this.#resets = new Http2ResetRate(clock);
    this.#preparer = new Http2Preparer(options.clientCertBlock);
    const parts = { streams: this.#streams, resets: this.#resets };
    this.#requests = new Http2Requests({ ...parts, preparer: this.#preparer, events: this.#requestEvents() });
    this.#responses = new Http2Responses({ ...parts, window: this.#window, events: this.#responseEvents() });
    this.#sides = new Http2Sides({
      client,
      isClientBoundary: () => this.#responses.isAtBoundary,
      isApplicationBoundary: () => this.#requests.isAtBoundary,
      wantsClient: () => this.#isEnding || (!this.#isOpening && !this.#requests.isHeld),
      wantsApplication: () => !this.#responses.isHeld,
    });
    const [sides, settings] = [this.#sides, this.#settings];
    this.#greeting = new Http2Greeting(sides, settings);
    this.#refusals = new Http2Refusals({ ...parts, sides, settings, window: this.#window });
    const foreseenEnd = new ForeseenEnd(clock, options.endsAtMs);
    this.#cancelForeseen = [
      foreseenEnd.whenNear(() => this.#goAway(MAX_31_BITS)),
      foreseenEnd.whenIdleEnds(() => this.#leave()),
    ];
  }

  /**
   * Begins with bytes of the client that were read before, its whole preface at least, and with the application if it is connected already, with what that has
   * said by itself.
   */
  start(begin: {
    readonly first: Uint8Array;
    readonly application?: ByteStream;
    readonly spoken?: Uint8Array;
  }): void {
    const { first, application, spoken } = begin;
    this.#options.client.resume();
    if (application !== undefined) this.#adopt(application);
    this.#sides.toClient.send(OWN_SETTINGS);
    this.#read(() => this.#requests.take(asBuffer(first).subarray(CLIENT_PREFACE.length)));
    if (spoken !== undefined) this.#readApplication(() => this.#responses.take(asBuffer(spoken)));
    if (!this.#isOver) this.#options.client.attach(this.#clientReader);
  }

  /** Cuts the streams whose requests `findLoss` says have lost their permit; the others go on. */
  reconsider(findLoss: (http: DecisionHttpRequest) => StreamFailure | undefined): void {
    if (this.#isOver || this.#isEnding) return;
    const { open } = this.#streams;
    const lost = new Set(open.filter(([, { http }]) => findLoss(http) !== undefined).map(([id]) => id));
    if (lost.size === 0) return;
    if (this.#isOpening) this.#takeBack(lost);
    else for (const streamId of lost) this.#refusals.cut(streamId, 'cancel');
    this.#afterwards();
    this.#watchCut();
  }

  /** Nothing has reached the application, and nothing will: what was to be said there is one piece. The client may try anew what it has not lost. */
  #takeBack(lost: ReadonlySet<number>): void {
    for (const [streamId] of this.#streams.open) {
      this.#streams.close(streamId);
      this.#sides.toClient.send(encodeRstStream(streamId, lost.has(streamId) ? 'cancel' : 'refused_stream'));
    }
    this.#sides.drop();
    this.#sides.toClient.send(encodeGoAway(this.#streams.lastId, 'no_error'));
    this.#endSoon();
  }

  /** A client that stops within a frame keeps from the application what it has lost. */
  #watchCut(): void {
    const { toApplication } = this.#sides;
    if (this.#isOver || this.#isEnding || toApplication.waitingBytes === 0) return;
    const { flushes } = toApplication;
    if (flushes === this.#watchedFlushes) return;
    this.#watchedFlushes = flushes;
    this.#cancelCutWatch();
    this.#cancelCutWatch = this.#options.clock.schedule(HTTP2_LIMITS.cutMs, () => {
      if (toApplication.flushes === flushes) this.cut({ message: 'The client stopped within a frame' });
    });
  }

  /** Ends both sides at once. */
  cut(failure: StreamFailure): void {
    if (this.#isOver) return;
    this.#options.client.abort(failure);
    this.#finish(failure);
  }

  readonly #clientReader: ByteStreamReader = {
    onData: (bytes) => this.#read(() => this.#requests.take(asBuffer(bytes))),
    onEnd: () => this.#onClientEnd(),
    onDrain: () => {
      this.#timer.taken();
      this.#sides.clientDrained();
      this.#takeDueTurn();
    },
    onClose: (failure) => this.#onClose(failure),
  };

  readonly #applicationReader: ByteStreamReader = {
    onData: (bytes) => this.#readApplication(() => this.#responses.take(asBuffer(bytes))),
    onEnd: () => this.#onApplicationEnd(),
    onDrain: () => {
      this.#sides.applicationDrained();
      this.#takeDueTurn();
    },
    onClose: (failure) => this.#onApplicationClose(failure),
  };

  #requestEvents(): Http2RequestEvents {
    const sides = (): Http2Sides => this.#sides;
    const greeting = (): Http2Greeting => this.#greeting;
    return {
      get isGreeted() {
        return greeting().isSaid;
      },
      get hasWaiting() {
        return sides().toApplication.canGo;
      },
      onBoundary: () => this.#sides.toApplication.flush(),
      onPass: (bytes, start, end) => this.#sides.passToApplication(bytes, start, end),
      onRequest: (request) => this.#onRequest(request),
      onTrailers: (streamId, block) => {
        this.#streams.endRequest(streamId);
        this.#sides.sendBlock(block, { streamId, isEnd: true, isFirst: false });
      },
      onMalformed: (streamId, why, isEnd) => this.#endMalformed(streamId, why, isEnd),
      onSettings: (settings) => this.#greeting.takeSettings(settings),
      onWindow: (increment) => this.#onWindow(increment),
      onPing: (payload) =>
        this.#sides.toClient.send(encodeFrame(FRAME.ping, 0, { flags: FLAG.ack, payload })),
      onDropped: (bytes) => this.#sides.toClient.send(encodeWindowUpdate(0, bytes)),
    };
  }

  #responseEvents(): Http2ResponseEvents {
    const sides = (): Http2Sides => this.#sides;
    return {
      get hasWaiting() {
        return sides().toClient.canGo;
      },
      onBoundary: () => this.#sides.toClient.flush(),
      onPass: (bytes, start, end) => this.#sides.passToClient(bytes, start, end),
      onSettings: (settings) => {
        const passed = encodeSettings(this.#settings.fromApplication(settings));
        this.#requests.maxFrameBytes = this.#settings.maxFrameBytes;
        this.#sides.passToClient(passed, 0, passed.length);
      },
      onAcknowledged: () => this.#greeting.passesAcknowledgement(),
      onDropped: (bytes) => this.#sides.toApplication.send(encodeWindowUpdate(0, bytes)),
    };
  }

  /** Runs `work`, which reads the client, and looks at where that led. */
  #read(work: () => void): void {
    if (this.#isOver || this.#isEnding) return;
    try {
      work();
    } catch (error) {
      this.#failClient(toPicketError(error));
    }
    this.#afterwards();
  }

  #readApplication(work: () => void): void {
    if (this.#isOver || this.#isEnding) return;
    try {
      work();
    } catch (error) {
      this.#failApplication(toPicketError(error).message);
    }
    this.#afterwards();
  }

  #afterwards(): void {
    if (this.#isOver) return;
    this.#sides.settle();
    if (this.#isEnding) return;
    if (this.#isLeaving && this.#streams.openCount === 0) return this.#endSoon();
    this.#watchTime();
    this.#takeDueTurn();
  }

  #onRequest(request: NewRequest): void {
    const { prepared, streamId, isEnd } = request;
    if (this.#requests.count % HTTP2_LIMITS.requestsInATurn === 0) this.#waitForATurn();
    if (this.#isLeaving) return this.#refusals.reset(request, 'refused_stream');
    if (prepared.kind === 'malformed') {
      this.#options.refuse({
        reason: 'protocol_error',
        message: `Cannot relay the request: ${prepared.why}`,
      });
      return this.#refusals.reset(request, 'protocol_error');
    }
    if (prepared.kind === 'refused') {
      const judgement = this.#options.refuse({ reason: 'protocol_error', message: prepared.why });
      const { status, isGrpc } = prepared;
      return this.#refusals.answer(judgement, { streamId, isEnd, status, isGrpc, isHead: false });
    }
    const { http, isGrpc } = prepared;
    if (this.#streams.isFull) {
      this.#options.refuse({ reason: 'overloaded', http });
      return this.#refusals.reset(request, 'refused_stream');
    }
    const judgement = this.#options.judge(http);
    if (judgement.verdict.isAllowed) return this.#forward(prepared, streamId, isEnd);
    const { httpStatus: status } = judgement.verdict;
    this.#refusals.answer(judgement, { streamId, isEnd, status, isGrpc, isHead: http.method === 'HEAD' });
  }

  #forward(prepared: PreparedHttp2Request, streamId: number, isEnd: boolean): void {
    this.#greeting.say();
    if (this.#sides.application === undefined && !this.#isOpening) void this.#openApplication();
    this.#streams.add(streamId, { ...prepared, isRequestEnded: isEnd });
    const isFirst = this.#streams.lastPassedId === 0;
    this.#streams.lastPassedId = streamId;
    this.#sides.sendBlock(prepared.block, { streamId, isEnd, isFirst });
  }

  #endMalformed(streamId: number, why: string, isEnd: boolean): void {
    this.#resets.count();
    const http = this.#streams.find(streamId)?.http ?? null;
    this.#options.refuse({ reason: 'protocol_error', message: `Cannot relay the request: ${why}`, http });
    if (isEnd) this.#streams.endRequest(streamId);
    this.#refusals.cut(streamId, 'protocol_error');
  }

  #onWindow(increment: number): void {
    this.#greeting.takeWindow(this.#window.giveBack(increment));
    if (this.#responses.isHeld) this.#readApplication(() => this.#responses.release());
  }

  async #openApplication(): Promise<void> {
    this.#isOpening = true;
    let application: ByteStream;
    try {
      application = await this.#options.openApplication();
    } catch (error) {
      this.#isOpening = false;
      return this.#readApplication(() => {
        throw error;
      });
    }
    this.#isOpening = false;
    if (this.#isOver || this.#isEnding) return application.abort();
    this.#adopt(application);
    if (this.#isClientEnded) application.end();
    this.#afterwards();
  }

  #adopt(application: ByteStream): void {
    this.#openSides += 1;
    this.#sides.adopt(application, this.#applicationReader);
    application.resume();
  }

  /** Others get their turn before more requests of this client are read. */
  #waitForATurn(): void {
    this.#requests.hold();
    this.#options.clock.schedule(0, () => {
      this.#isTurnDue = true;
      this.#takeDueTurn();
    });
  }

  /** Goes on with requests that were held, unless their answers would only pile up. */
  #takeDueTurn(): void {
    if (!this.#isTurnDue || this.#sides.isBackedUp) return;
    this.#isTurnDue = false;
    this.#read(() => this.#requests.release());
  }

  #goAway(lastStreamId: number): void {
    if (this.#isOver || this.#isEnding) return;
    this.#sides.toClient.send(encodeGoAway(lastStreamId, 'no_error'));
    this.#sides.settle();
  }

  /** Takes no further request and ends after the last answer. */
  #leave(): void {
    if (this.#isOver || this.#isEnding) return;
    this.#isLeaving = true;
    this.#goAway(this.#streams.lastId);
    this.#afterwards();
  }

  /** The client has broken the protocol: nothing that it sends can be trusted to be read as the application would. */
  #failClient(error: PicketError): void {
    if (this.#isOver || this.#isEnding) return;
    this.#options.refuse({ reason: 'protocol_error', message: error.message });
    this.#sides.toClient.send(encodeGoAway(this.#streams.lastId, errorNameOf(error)));
    this.#endSoon();
  }

  /** The application cannot be reached, broke off, or does not speak HTTP/2. Whoever waits for its first word hears that. */
  #failApplication(message: string): void {
    if (this.#isOver || this.#isEnding) return;
    if (!this.#responses.isAtBoundary) return this.cut({ message });
    for (const [streamId, stream] of this.#streams.open) {
      const { http, isGrpc, isRequestEnded: isEnd } = stream;
      const judgement = this.#options.refuse({ reason: 'application_unreachable', message, http });
      const isHead = http.method === 'HEAD';
      if (stream.isAnswered) this.#sides.toClient.send(encodeRstStream(streamId, 'internal_error'));
      else this.#refusals.answer(judgement, { streamId, isEnd, status: STATUS.badGateway, isGrpc, isHead });
    }
    if (this.#sides.application !== undefined) this.#openSides -= 1;
    this.#sides.drop();
    this.#sides.toClient.send(encodeGoAway(this.#streams.lastId, 'no_error'));
    this.#endSoon();
  }

  /** Ends after a refusal: a client that does not end in turn is reset. */
  #endSoon(): void {
    this.#end();
    this.#timer.linger(() => this.cut({ message: 'It was refused' }));
  }

  #end(): void {
    if (this.#isEnding || this.#isOver) return;
    this.#isEnding = true;
    this.#requests.hold();
    this.#timer.close(() => this.cut({ message: 'It did not end' }));
    this.#sides.settle();
    this.#options.client.end();
    this.#sides.application?.end();
  }

  #onClientEnd(): void {
    this.#isClientEnded = true;
    if (this.#isOver || this.#isEnding) return;
    // It still gets its answers; whoever has none to come is done.
    if (this.#sides.application === undefined && !this.#isOpening) this.#end();
    else this.#sides.application?.end();
  }

  #onApplicationEnd(): void {
    if (this.#isOver || this.#isEnding) return;
    if (this.#streams.openCount > 0 && !this.#isClientEnded)
      this.#failApplication('The application ended within an answer');
    else this.#end();
    this.#afterwards();
  }

  #onApplicationClose(failure: StreamFailure | undefined): void {
    if (failure === undefined || this.#isEnding) return this.#onClose(undefined);
    this.#failApplication(failure.message);
    this.#afterwards();
  }

  #onClose(failure: StreamFailure | undefined): void {
    if (this.#isOver) return;
    this.#openSides -= 1;
    if (failure !== undefined || this.#openSides <= 0) this.#finish(failure);
  }

  #finish(failure: StreamFailure | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.stop();
    this.#cancelCutWatch();
    for (const cancel of this.#cancelForeseen) cancel();
    if (failure !== undefined) this.#sides.application?.abort(failure);
    this.#options.onDone(failure);
  }

  #watchTime(): void {
    const phase = this.#phase();
    this.#timer.watch(phase, this.#requests.count, () => {
      if (phase === 'head') this.#refuseSlow();
      else this.#leave();
    });
  }

  #phase(): TimedPhase | undefined {
    if (this.#requests.isWithinHead) return 'head';
    return this.#greeting.isSaid ? undefined : 'idle';
  }

  #refuseSlow(): void {
    this.#options.refuse({
      reason: 'protocol_error',
      message: `A request head took longer than ${PHASE_MS.head} ms`,
    });
    this.#goAway(this.#streams.lastId);
    this.#endSoon();
  }
}

function errorNameOf({ reason }: PicketError): Http2ErrorName {
  const name = reason.replace(/^http2_/, '');
  return name in HTTP2_ERROR ? (name as Http2ErrorName) : 'internal_error';
}

/** Bun's sockets give Buffers already. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
