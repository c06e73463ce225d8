import { toPicketError, type PicketError } from '../../../shared/errors/errors.ts';
import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { buildDenialResponse } from '../relays/denial-response.ts';
import { ForeseenEnd } from '../relays/foreseen-end.ts';
import type { Judgement } from '../judge/judge.ts';
import type { ConnectionTurns } from '../connections/fair-turns.ts';
import { RelayEnd } from '../relays/relay-end.ts';
import { RelayTimer, PHASE_MS, type TimedPhase } from '../relays/relay-timer.ts';
import { asBuffer } from '../streams/as-buffer.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import { splice } from '../streams/splice.ts';
import { Http1Application, type Http1ApplicationEvents } from './application.ts';
import { Http1Denials } from './denials.ts';
import { RequestPreparer } from './prepared.ts';
import type { Http1RelayOptions } from './relay-options.ts';
import { RequestReader, type ReadRequest, type RequestSink } from './requests.ts';
import type { UnderWay } from './under-way.ts';

const STATUS = { badRequest: 400, timeout: 408, headTooLong: 431, badGateway: 502 } as const;

/**
 * Relays HTTP/1.1 between a client and an application, head by head: each request is decided by itself, refused ones are answered here, and the application
 * sees only what was allowed, with the caller's identity attached. One request is under way at a time; pipelined ones wait.
 */
export class Http1Relay {
  readonly #options: Http1RelayOptions;
  readonly #requests = new RequestReader();
  readonly #preparer: RequestPreparer;
  readonly #turns: ConnectionTurns;
  readonly #denials: Http1Denials;
  readonly #application: Http1Application;
  readonly #end: RelayEnd;
  readonly #timer: RelayTimer;
  readonly #foreseenEnd: ForeseenEnd;
  readonly #cancelIdleEnd: () => void;
  #underWay: UnderWay | undefined;
  #isClientEnded = false;
  /** The application takes no more for now: until then nothing that the client owes is read. */
  #isHeldBack = false;

  constructor(options: Http1RelayOptions) {
    this.#options = options;
    this.#timer = new RelayTimer(options.clock);
    this.#foreseenEnd = new ForeseenEnd(options.clock, options.endsAtMs);
    this.#cancelIdleEnd = this.#foreseenEnd.whenIdleEnds(() => this.#endIfIdle());
    this.#preparer = new RequestPreparer(options.clientCertLine);
    this.#turns = options.turns.join(options.party.name, () => this.#goOn());
    this.#denials = new Http1Denials({
      ...options,
      turns: this.#turns,
      isEndNear: () => this.#foreseenEnd.isNear,
      hold: () => this.#requests.hold(),
      goOn: () => this.#goOn(),
    });
    this.#end = new RelayEnd({
      client: options.client,
      application: () => this.#application.stream,
      timer: this.#timer,
      onEnding: () => this.#stopReading(),
      onOver: (failure) => this.#onOver(failure),
    });
    this.#application = new Http1Application({
      connect: options.openApplication,
      reconnect: options.reopenApplication,
      end: this.#end,
      clock: options.clock,
      events: this.#applicationEvents,
    });
  }

  /** Begins with bytes of the client that were read before, and with the application if it is connected already. */
  start(first: Uint8Array, application?: ByteStream): void {
    if (application !== undefined) this.#application.adopt(application);
    this.#take(Buffer.from(first));
    if (!this.#end.isOver) this.#options.client.attach(this.#clientReader);
  }

  /** The request that is under way, or undefined. */
  get current(): DecisionHttpRequest | undefined {
    return this.#underWay?.http;
  }

  /** The next answer is the last one, and the client is told so. */
  retire(): void {
    this.#foreseenEnd.bringNear();
  }

  /** Ends both sides at once. */
  cut(failure: StreamFailure): void {
    this.#end.atOnce(failure);
  }

  readonly #requestSink: RequestSink = {
    onHead: (request) => this.#onHead(request),
    onBody: (bytes) => {
      if (!this.#denials.isDiscarding) this.#send(bytes);
    },
    onComplete: () => this.#onRequestComplete(),
  };

  readonly #applicationEvents: Http1ApplicationEvents = {
    onBytes: (bytes) => {
      this.#underWay?.hop?.seeAnswer(bytes);
      this.#end.answered();
      if (!this.#options.client.write(bytes)) this.#application.stream?.pause();
    },
    isLast: () => this.#isNewlyLast(),
    onComplete: () => this.#onResponseComplete(),
    onUpgraded: (stream) => this.#spliceWith(stream),
    onBroken: (message) => {
      // It has said all that it had to say, and did not want the rest of the body.
      if (this.#underWay?.isAnswered === true) this.#end.afterRefusal();
      else this.#failRequest(message);
    },
    onFailed: (message) => this.#failRequest(message),
    onDrain: () => {
      this.#letOn();
      this.#watchTime();
    },
  };

  readonly #clientReader: ByteStreamReader = {
    onData: (bytes) => this.#take(asBuffer(bytes)),
    onEnd: () => this.#onClientEnd(),
    onDrain: () => {
      this.#timer.taken();
      this.#application.stream?.resume();
      this.#denials.drained();
    },
    onClose: (failure) => this.#end.sideClosed(failure),
  };

  /** What is not to be decided now is kept. */
  #take(bytes: Buffer): void {
    if (!this.#end.isAhead) return this.#end.threwAway(bytes.length);
    if (!this.#requests.isHeld && !this.#isTurn()) this.#requests.hold();
    this.#read(() => this.#requests.take(bytes, this.#requestSink));
  }

  /** Whether what comes next may be read: the body of what was allowed always, further requests in their turn. */
  #isTurn(): boolean {
    return this.#underWay !== undefined || this.#turns.begin();
  }

  /** Runs `work`, which reads requests, and looks at where that led. */
  #read(work: () => void): void {
    if (!this.#end.isAhead) return;
    try {
      work();
    } catch (error) {
      return this.#refuseMalformed(toPicketError(error));
    } finally {
      this.#turns.end();
    }
    if (this.#end.isEnding) return;
    if (this.#requests.isFull) this.#options.client.pause();
    this.#watchTime();
  }

  #onHead(request: ReadRequest): void {
    const { head, http, rebuilt: prepared } = this.#preparer.prepare(request);
    const judgement = this.#options.judge(http);
    if (!judgement.verdict.isAllowed) {
      if (this.#denials.answer(judgement, head)) this.#end.afterRefusal();
      return;
    }
    const { hop } = judgement;
    const rebuilt = hop?.markHead(prepared) ?? prepared;
    const progress = { isSent: false, isComplete: false, isAnswered: false, isLast: head.closes };
    this.#underWay = { hop, http, head, rebuilt, ...progress };
    this.#application.expect({ isHead: head.method === 'HEAD', wantsUpgrade: head.wantsUpgrade });
    if (judgement.batch === undefined) return this.#forward(this.#underWay);
    this.#requests.hold();
    this.#options.whenKept(judgement.batch, (isKept) => {
      try {
        this.#onRecorded(judgement, isKept);
      } catch (error) {
        // A fault of ours must not keep others from going on behind it.
        this.cut({ message: toPicketError(error).message });
      }
    });
  }

  #onRecorded({ decisionId }: Judgement, isKept: boolean): void {
    const request = this.#underWay;
    if (!this.#end.isAhead || request === undefined) return;
    if (isKept) return this.#forward(request);
    const refusal = { reason: 'audit_unavailable', decisionId, http: request.http } as const;
    const judgement = this.#options.refuse(refusal);
    this.#answerLast(judgement, judgement.verdict.httpStatus);
  }

  #forward(request: UnderWay): void {
    this.#application.leaveIfStale();
    if (this.#application.stream === undefined) return void this.#openApplication(request);
    request.isSent = true;
    this.#send(request.rebuilt);
    // What is complete waits for its answer.
    if (!request.isComplete && this.#requests.isHeld) this.#goOn();
  }

  async #openApplication(request: UnderWay): Promise<void> {
    this.#requests.hold();
    if (await this.#application.open()) this.#forward(request);
  }

  #send(bytes: Uint8Array): void {
    if (this.#application.stream?.write(bytes) !== false) return;
    this.#isHeldBack = true;
    this.#options.client.pause();
  }

  #letOn(): void {
    this.#isHeldBack = false;
    this.#options.client.resume();
  }

  #goOn(): void {
    this.#letOn();
    if (this.#requests.hasKept && !this.#isTurn()) return;
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
    if (request.isLast) this.#end.inOrder();
  }

  #onResponseComplete(): void {
    const answered = this.#underWay;
    this.#application.answered();
    answered?.hop?.end();
    if (answered?.isComplete === false) {
      answered.isAnswered = true;
      return;
    }
    this.#underWay = undefined;
    if (answered === undefined || answered.isLast) return this.#end.inOrder();
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
    if (isIdle && !this.#application.isUpgraded) this.#end.inOrder();
  }

  /** Both sides agreed on another protocol (101): its bytes are neither requests nor answers. */
  #spliceWith(application: ByteStream): void {
    this.#timer.stop();
    this.#send(this.#requests.surrender());
    this.#options.client.resume();
    splice(this.#options.client, application, (failure) => this.#end.bothClosed(failure));
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
    if (!this.#end.isAhead) return;
    const request = this.#underWay;
    if (request === undefined || this.#application.hasBegunAnswer) return this.cut({ message });
    const { mayBeAskedAgain } = this.#application;
    this.#application.drop();
    // It waits for its record, and goes by another connection then.
    if (mayBeAskedAgain && !request.isSent) return;
    if (mayBeAskedAgain && isRepeatable(request)) return this.#forward(request);
    const { http } = request;
    const judgement = this.#options.refuse({ reason: 'application_unreachable', message, http });
    this.#answerLast(judgement, STATUS.badGateway);
  }

  #answerLast(judgement: Judgement, status: number): void {
    const isHead = this.#underWay?.head.method === 'HEAD';
    this.#underWay?.hop?.judged(judgement, status);
    this.#underWay = undefined;
    this.#options.client.write(buildDenialResponse(judgement, { status, closes: true, isHead }));
    this.#end.afterRefusal();
  }

  /** Requests that came in the same piece of bytes must neither be decided nor reach the application. */
  #stopReading(): void {
    this.#requests.hold();
    this.#options.client.resume();
  }

  #onClientEnd(): void {
    this.#isClientEnded = true;
    if (!this.#end.isEnding) this.#endAfterClient();
  }

  /** A client that ended still gets its answers; an unfinished request gets none. */
  #endAfterClient(): void {
    if (!this.#end.isAhead || this.#requests.isHeld) return;
    if (this.#requests.isInside) return this.cut({ message: 'The client ended within a request' });
    if (this.#underWay === undefined) this.#end.inOrder();
  }

  #onOver(failure: StreamFailure | undefined): void {
    this.#underWay?.hop?.end();
    this.#cancelIdleEnd();
    this.#options.onDone(failure);
  }

  #watchTime(): void {
    if (!this.#end.isAhead) return;
    const phase = this.#phase();
    this.#timer.watch(phase, this.#requests.count, () => {
      if (phase === 'head') this.#refuseSlow();
      else this.#end.afterRefusal();
    });
  }

  #phase(): TimedPhase | undefined {
    if (this.#requests.isInHead && !this.#isHeldBack) return 'head';
    if (this.#denials.isDiscarding) return 'refused_body';
    const isTimed = this.#options.endsIdle || this.#application.stream === undefined;
    return isTimed && this.#underWay === undefined ? 'idle' : undefined;
  }

  #refuseSlow(): void {
    const message = `A request head took longer than ${PHASE_MS.head} ms`;
    this.#answerLast(this.#options.refuse({ reason: 'protocol_error', message }), STATUS.timeout);
  }
}

/** Methods that are safe by RFC 9110 9.2.1, but for TRACE. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Whether a request may be sent again as it is, though the application may have seen it (RFC 9110 9.2.2). */
function isRepeatable({ head, isComplete }: UnderWay): boolean {
  const { method, bodyBytes, isChunked, wantsUpgrade } = head;
  return SAFE_METHODS.has(method) && isComplete && bodyBytes === 0 && !isChunked && !wantsUpgrade;
}
