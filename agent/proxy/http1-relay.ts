import { toPicketError, type PicketError } from '../../shared/errors/errors.ts';
import type { DecisionHttpRequest } from '../../shared/policy/decision.ts';
import type { RequestHead } from '../../shared/wire/http1-head.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from './byte-stream.ts';
import { buildDenialResponse } from './denial-response.ts';
import { ForeseenEnd } from './foreseen-end.ts';
import { Http1Denials } from './http1-denials.ts';
import { RequestPreparer } from './http1-prepared.ts';
import { RequestReader, type ReadRequest, type RequestSink } from './http1-requests.ts';
import { ResponseReader, type ResponseSink } from './http1-responses.ts';
import type { Http1RelayOptions } from './http1-relay-options.ts';
import { Http1RelayTimer, PHASE_MS, type TimedPhase } from './http1-relay-timer.ts';
import type { Judgement } from './judge.ts';
import { splice } from './splice.ts';

/** A request that was allowed, and has not both come and been answered whole. */
interface UnderWay {
  readonly http: DecisionHttpRequest;
  readonly head: RequestHead;
  /** Whether all of it was read from the client. */
  isComplete: boolean;
  /** An application may answer before it has read everything, and may want the rest all the same. */
  isAnswered: boolean;
  /** Whether the connection ends after its answer: the client wants it so, or was told so. */
  isLast: boolean;
}

const STATUS = { badRequest: 400, timeout: 408, headTooLong: 431, badGateway: 502 } as const;

/**
 * Relays HTTP/1.1 between a client and an application, head by head: each request is decided by itself, refused ones are answered here, and the application
 * sees only what was allowed, with the caller's identity attached. One request is under way at a time; pipelined ones wait.
 */
export class Http1Relay {
  readonly #options: Http1RelayOptions;
  readonly #requests = new RequestReader();
  readonly #responses = new ResponseReader();
  #application: ByteStream | undefined;
  #underWay: UnderWay | undefined;
  readonly #preparer: RequestPreparer;
  readonly #denials: Http1Denials;
  #isUpgraded = false;
  /** Whether we have told the client that nothing more comes; what it sends from then on is thrown away. */
  #isEnding = false;
  #isClientEnded = false;
  #isOver = false;
  #openStreams = 1;
  readonly #timer: Http1RelayTimer;
  readonly #foreseenEnd: ForeseenEnd;
  readonly #cancelIdleEnd: () => void;

  constructor(options: Http1RelayOptions) {
    this.#options = options;
    this.#timer = new Http1RelayTimer(options.clock);
    this.#foreseenEnd = new ForeseenEnd(options.clock, options.endsAtMs);
    this.#cancelIdleEnd = this.#foreseenEnd.whenIdleEnds(() => this.#endIfIdle());
    this.#preparer = new RequestPreparer(options.clientCertLine);
    this.#denials = new Http1Denials({
      ...options,
      hold: () => this.#requests.hold(),
      goOn: () => this.#goOn(),
    });
  }

  /** Begins with bytes of the client that were read before, and with the application if it is connected already. */
  start(first: Uint8Array, application?: ByteStream): void {
    if (application !== undefined) this.#adopt(application);
    this.#read(() => this.#requests.take(Buffer.from(first), this.#requestSink));
    if (!this.#isOver) this.#options.client.attach(this.#clientReader);
  }

  /** The request that is under way, or undefined. */
  get current(): DecisionHttpRequest | undefined {
    return this.#underWay?.http;
  }

  /** Ends both sides at once. */
  cut(failure: StreamFailure): void {
    if (this.#isOver) return;
    this.#options.client.abort(failure);
    this.#finish(failure);
  }

  readonly #requestSink: RequestSink = {
    onHead: (request) => this.#onHead(request),
    onBody: (bytes) => {
      if (!this.#denials.isDiscarding) this.#send(bytes);
    },
    onComplete: () => this.#onRequestComplete(),
  };

  readonly #responseSink: ResponseSink = {
    onBytes: (bytes) => {
      if (!this.#options.client.write(bytes)) this.#application?.pause();
    },
    isLast: () => this.#isNewlyLast(),
    onComplete: () => this.#onResponseComplete(),
    onUpgrade: () => {
      this.#isUpgraded = true;
    },
  };

  readonly #clientReader: ByteStreamReader = {
    onData: (bytes) => this.#read(() => this.#requests.take(asBuffer(bytes), this.#requestSink)),
    onEnd: () => this.#onClientEnd(),
    onDrain: () => {
      this.#timer.taken();
      this.#application?.resume();
      this.#denials.drained();
    },
    onClose: (failure) => this.#onClose(failure),
  };

  readonly #applicationReader: ByteStreamReader = {
    onData: (bytes) => this.#onResponseBytes(asBuffer(bytes)),
    onEnd: () => this.#onApplicationEnd(),
    onDrain: () => this.#options.client.resume(),
    onClose: (failure) => this.#onApplicationClose(failure),
  };

  /** Runs `work`, which reads requests, and looks at where that led. */
  #read(work: () => void): void {
    if (this.#isOver || this.#isEnding) return;
    try {
      work();
    } catch (error) {
      return this.#refuseMalformed(toPicketError(error));
    }
    if (this.#isEnding) return;
    if (this.#requests.isFull) this.#options.client.pause();
    this.#watchTime();
  }

  #onHead(request: ReadRequest): void {
    const { head, http, rebuilt } = this.#preparer.prepare(request);
    const judgement = this.#options.judge(http);
    if (!judgement.verdict.isAllowed) {
      if (this.#denials.answer(judgement, head)) this.#endSoon();
      return;
    }
    this.#underWay = { http, head, isComplete: false, isAnswered: false, isLast: head.closes };
    this.#responses.expect({ isHead: head.method === 'HEAD', wantsUpgrade: head.wantsUpgrade });
    if (this.#application === undefined) void this.#openApplication(rebuilt);
    else this.#send(rebuilt);
  }

  async #openApplication(head: Uint8Array): Promise<void> {
    this.#requests.hold();
    let application: ByteStream;
    try {
      application = await this.#options.openApplication();
    } catch (error) {
      return this.#failRequest(toPicketError(error).message);
    }
    if (this.#isOver || this.#isEnding) return application.abort();
    this.#adopt(application);
    this.#send(head);
    // What is complete waits for its answer.
    if (this.#underWay?.isComplete === false) this.#goOn();
  }

  #adopt(application: ByteStream): void {
    this.#application = application;
    this.#openStreams += 1;
    application.attach(this.#applicationReader);
  }

  #send(bytes: Uint8Array): void {
    if (this.#application?.write(bytes) === false) this.#options.client.pause();
  }

  #goOn(): void {
    this.#options.client.resume();
    this.#read(() => this.#requests.release(this.#requestSink));
    if (this.#isClientEnded) this.#endAfterClient();
  }

  #onRequestComplete(): void {
    this.#denials.complete();
    const request = this.#underWay;
    if (request === undefined) return;
    request.isComplete = true;
    // The next head waits for this one's answer.
    if (!request.isAnswered) return this.#requests.hold();
    this.#underWay = undefined;
    if (request.isLast) this.#end();
  }

  #onResponseBytes(bytes: Buffer): void {
    if (this.#isOver) return;
    try {
      this.#responses.take(bytes, this.#responseSink);
    } catch (error) {
      return this.#failRequest(toPicketError(error).message);
    }
    if (this.#isUpgraded) this.#spliceBoth();
  }

  #onResponseComplete(): void {
    const answered = this.#underWay;
    if (answered?.isComplete === false) {
      answered.isAnswered = true;
      return;
    }
    this.#underWay = undefined;
    if (answered === undefined || answered.isLast) return this.#end();
    this.#goOn();
  }

  /** Whether the client must be told that this answer is the last one. */
  #isNewlyLast(): boolean {
    const request = this.#underWay;
    if (request === undefined || request.isLast || !this.#foreseenEnd.isNear) return false;
    request.isLast = true;
    return true;
  }

  #endIfIdle(): void {
    const isIdle = this.#underWay === undefined && !this.#requests.isInside && !this.#denials.isWaiting;
    if (isIdle && !this.#isUpgraded) this.#end();
  }

  /** Both sides agreed on another protocol (101): its bytes are neither requests nor answers. */
  #spliceBoth(): void {
    const application = this.#application;
    if (application === undefined) return;
    this.#timer.stop();
    this.#send(this.#requests.surrender());
    this.#options.client.resume();
    splice(this.#options.client, application, (failure) => this.#finish(failure));
  }

  #refuseMalformed(error: PicketError): void {
    const { message, reason } = error;
    const judgement = this.#options.refuse({ reason: 'protocol_error', message });
    // A request whose head was passed on may be half way to the application.
    if (this.#underWay !== undefined) return this.cut({ reason: 'protocol_error', message });
    this.#answerLast(judgement, reason === 'http1_head_too_long' ? STATUS.headTooLong : STATUS.badRequest);
  }

  /** The application cannot be reached, broke off, or answered what cannot be relayed. */
  #failRequest(message: string): void {
    if (this.#isOver || this.#isEnding) return;
    if (this.#underWay === undefined || this.#responses.hasBegun) return this.cut({ message });
    const { http } = this.#underWay;
    const judgement = this.#options.refuse({ reason: 'application_unreachable', message, http });
    this.#dropApplication();
    this.#answerLast(judgement, STATUS.badGateway);
  }

  #dropApplication(): void {
    if (this.#application === undefined) return;
    this.#application.abort();
    this.#application = undefined;
    this.#openStreams -= 1;
  }

  #answerLast(judgement: Judgement, status: number): void {
    const isHead = this.#underWay?.head.method === 'HEAD';
    this.#underWay = undefined;
    this.#options.client.write(buildDenialResponse(judgement, { status, closes: true, isHead }));
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
    // Requests that came in the same piece of bytes must neither be decided nor reach the application.
    this.#requests.hold();
    this.#timer.close(() => this.cut({ message: 'It did not end' }));
    this.#options.client.resume();
    this.#options.client.end();
    this.#application?.end();
  }

  #onClientEnd(): void {
    this.#isClientEnded = true;
    if (!this.#isEnding) this.#endAfterClient();
  }

  /** A client that ended still gets its answers; an unfinished request gets none. */
  #endAfterClient(): void {
    if (this.#isOver || this.#isEnding || this.#denials.isWaiting) return;
    if (this.#requests.isInside) return this.cut({ message: 'The client ended within a request' });
    if (this.#underWay === undefined) this.#end();
  }

  #onApplicationEnd(): void {
    if (this.#isOver || this.#isEnding) return;
    if (this.#responses.end(this.#responseSink)) this.#end();
    else this.#failRequest('The application ended within an answer');
  }

  #onApplicationClose(failure: StreamFailure | undefined): void {
    this.#application = failure === undefined ? this.#application : undefined;
    if (failure !== undefined && !this.#isEnding) {
      this.#openStreams -= 1;
      // It has said all that it had to say, and did not want the rest of the body.
      if (this.#underWay?.isAnswered === true) return this.#endSoon();
      return this.#failRequest(failure.message);
    }
    this.#onClose(undefined);
  }

  #onClose(failure: StreamFailure | undefined): void {
    if (this.#isOver) return;
    this.#openStreams -= 1;
    if (failure !== undefined || this.#openStreams <= 0) this.#finish(failure);
  }

  #finish(failure: StreamFailure | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.stop();
    this.#cancelIdleEnd();
    if (failure !== undefined) this.#application?.abort(failure);
    this.#options.onDone(failure);
  }

  #watchTime(): void {
    if (this.#isOver || this.#isEnding) return;
    const phase = this.#phase();
    this.#timer.watch(phase, this.#requests.count, () => {
      if (phase === 'head') this.#refuseSlow();
      else this.#endSoon();
    });
  }

  #phase(): TimedPhase | undefined {
    if (this.#requests.isInHead) return 'head';
    if (this.#denials.isDiscarding) return 'refused_body';
    const isIdle = this.#application === undefined && this.#underWay === undefined;
    return isIdle ? 'idle' : undefined;
  }

  #refuseSlow(): void {
    const message = `A request head took longer than ${PHASE_MS.head} ms`;
    this.#answerLast(this.#options.refuse({ reason: 'protocol_error', message }), STATUS.timeout);
  }
}

/** Bun's sockets give Buffers already; a view costs more than all that is asked of it. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
