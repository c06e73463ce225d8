import { toPicketError, type PicketError } from '../../../shared/errors/errors.ts';
import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { http2ErrorOf } from '../../../shared/wire/http2-error.ts';
import {
  CLIENT_PREFACE,
  encodeFrame,
  encodeGoAway,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  type Http2ErrorName,
} from '../../../shared/wire/http2-frame.ts';
import { encodeSettings } from '../../../shared/wire/http2-settings.ts';
import type { CarriedStreams } from '../connections/unjudged-streams.ts';
import { RelayEnd } from '../relays/relay-end.ts';
import { RelayTimer, PHASE_MS, type TimedPhase } from '../relays/relay-timer.ts';
import { asBuffer } from '../streams/as-buffer.ts';
import type { ByteStream, ByteStreamReader, StreamFailure } from '../streams/byte-stream.ts';
import { Http2Admission, type NewRequest } from './admission.ts';
import { Http2Application } from './application.ts';
import { Http2Farewell } from './farewell.ts';
import { Http2Greeting } from './greeting.ts';
import { Http2Losses } from './losses.ts';
import { Http2Preparer } from './prepared.ts';
import { Http2Refusals } from './refusals.ts';
import type { Http2RelayOptions } from './relay-options.ts';
import { Http2Requests, type Http2RequestEvents } from './requests.ts';
import { Http2ResetRate } from './reset-rate.ts';
import { Http2Responses, type Http2ResponseEvents } from './responses.ts';
import { Http2SettingsExchange, OWN_SETTINGS } from './settings-exchange.ts';
import { Http2Sides } from './sides.ts';
import { Http2Streams } from './streams.ts';
import { Http2Turns } from './turns.ts';
import { Http2Window } from './window.ts';

/**
 * Relays HTTP/2 between a client and an application, frame by frame: one connection there for each one here, with the same streams, windows and settings. Each
 * request is decided by itself on its header block; refused ones are answered here, and the application sees only what was allowed, with the caller's identity
 * attached. Until a request is allowed the application is told nothing, and we alone speak HTTP/2 with the client.
 */
export class Http2Relay {
  readonly #options: Http2RelayOptions;
  readonly #streams: Http2Streams;
  readonly #window = new Http2Window();
  readonly #settings = new Http2SettingsExchange();
  readonly #resets: Http2ResetRate;
  readonly #requests: Http2Requests;
  readonly #responses: Http2Responses;
  readonly #preparer: Http2Preparer;
  readonly #sides: Http2Sides;
  readonly #greeting: Http2Greeting;
  readonly #refusals: Http2Refusals;
  readonly #admission: Http2Admission;
  readonly #timer: RelayTimer;
  readonly #end: RelayEnd;
  readonly #application: Http2Application;
  readonly #farewell: Http2Farewell;
  readonly #turns: Http2Turns;
  readonly #losses: Http2Losses;

  constructor(options: Http2RelayOptions) {
    this.#options = options;
    const { client, clock } = options;
    this.#streams = new Http2Streams(options);
    this.#timer = new RelayTimer(clock);
    this.#resets = new Http2ResetRate(clock);
    this.#preparer = new Http2Preparer(options.clientCertBlock);
    const parts = { streams: this.#streams, resets: this.#resets };
    this.#requests = new Http2Requests({ ...parts, preparer: this.#preparer, events: this.#requestEvents() });
    this.#responses = new Http2Responses({ ...parts, window: this.#window, events: this.#responseEvents() });
    this.#sides = new Http2Sides({
      client,
      isClientBoundary: () => this.#responses.isAtBoundary,
      isApplicationBoundary: () => this.#requests.isAtBoundary,
      isRecorded: () => this.#admission.writeRecords(),
      wantsClient: () => this.#end.isEnding || (!this.#application.isOpening && !this.#requests.isHeld),
      wantsApplication: () => !this.#responses.isHeld,
      onClientSteered: () => this.#watchTime(),
    });
    const [sides, settings] = [this.#sides, this.#settings];
    this.#end = new RelayEnd({
      client,
      application: () => sides.application,
      timer: this.#timer,
      onEnding: () => {
        this.#requests.hold();
        sides.settle();
      },
      onOver: (failure) => this.#onOver(failure),
    });
    this.#greeting = new Http2Greeting(sides, settings);
    this.#refusals = new Http2Refusals({ ...parts, sides, settings, window: this.#window });
    const afterwards = (): void => this.#afterwards();
    const sayGoodbye = (): void => this.#sayGoodbye('no_error');
    const connected = { ...parts, clock, sides, end: this.#end, refusals: this.#refusals };
    this.#application = new Http2Application({
      ...options,
      ...connected,
      responses: this.#responses,
      onDrain: () => this.#turns.takeIfDue(),
      afterwards,
      sayGoodbye,
    });
    this.#admission = new Http2Admission({
      ...options,
      ...connected,
      greeting: this.#greeting,
      application: this.#application,
    });
    this.#turns = new Http2Turns({
      ...options,
      ...connected,
      requests: this.#requests,
      onTurn: () => this.#read(() => this.#requests.release()),
    });
    this.#losses = new Http2Losses({
      ...connected,
      application: this.#application,
      requests: this.#requests,
      responses: this.#responses,
      afterwards,
      sayGoodbye,
    });
    this.#farewell = new Http2Farewell({ ...connected, endsAtMs: options.endsAtMs, onLeaving: afterwards });
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
    if (application !== undefined) this.#application.adopt(application);
    this.#sides.toClient.send(OWN_SETTINGS);
    this.#farewell.start();
    this.#read(() => this.#requests.take(asBuffer(first).subarray(CLIENT_PREFACE.length)));
    if (spoken !== undefined) this.#application.read(() => this.#responses.take(asBuffer(spoken)));
    if (!this.#end.isOver) this.#options.client.attach(this.#clientReader);
  }

  /** Its streams, of which a pass cuts those whose requests `findLoss` says have lost their permit; the others go on. */
  carried(findLoss: (http: DecisionHttpRequest) => StreamFailure | undefined): CarriedStreams {
    return {
      pass: () => this.#losses.pass(findLoss),
      hold: () => {
        this.#losses.stop();
        this.#sides.hold();
      },
      release: () => {
        this.#sides.release();
        this.#losses.watch();
        this.#turns.takeIfDue();
      },
    };
  }

  /** The client is told to make new requests on another connection (RFC 9113 6.8); those on their way are taken. */
  retire(): void {
    this.#farewell.retire();
  }

  /** Ends both sides at once. */
  cut(failure: StreamFailure): void {
    this.#end.atOnce(failure);
  }

  readonly #clientReader: ByteStreamReader = {
    onData: (bytes) => this.#take(bytes),
    onEnd: () => this.#application.clientEnded(),
    onDrain: () => {
      this.#timer.taken();
      this.#sides.clientDrained();
      this.#turns.takeIfDue();
    },
    onClose: (failure) => this.#end.sideClosed(failure),
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
      onClosed: (streamId) => this.#admission.endClosed(streamId),
      onMalformed: (streamId, why, isEnd) => this.#admission.endMalformed(streamId, why, isEnd),
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
      onPass: (bytes, start, end) => {
        this.#end.answered();
        this.#sides.passToClient(bytes, start, end);
      },
      onSettings: (settings) => {
        const passed = encodeSettings(this.#settings.fromApplication(settings));
        this.#requests.maxFrameBytes = this.#settings.maxFrameBytes;
        this.#sides.passToClient(passed, 0, passed.length);
      },
      onAcknowledged: () => this.#greeting.passesAcknowledgement(),
      onDropped: (bytes) => this.#sides.toApplication.send(encodeWindowUpdate(0, bytes)),
    };
  }

  #take(bytes: Uint8Array): void {
    if (this.#end.isAhead) this.#read(() => this.#requests.take(asBuffer(bytes)));
    else this.#end.threwAway(bytes.length);
  }

  /** Runs `work`, which reads the client, and looks at where that led. */
  #read(work: () => void): void {
    if (!this.#end.isAhead) return;
    this.#turns.begin();
    try {
      work();
    } catch (error) {
      this.#failClient(toPicketError(error));
    }
    this.#turns.end();
    this.#afterwards();
  }

  #afterwards(): void {
    if (this.#end.isOver) return;
    this.#sides.settle();
    if (this.#end.isEnding) return;
    if (this.#farewell.isLeaving && this.#streams.openCount === 0) return this.#end.afterRefusal();
    this.#watchTime();
    this.#turns.takeIfDue();
  }

  #onRequest(request: NewRequest): void {
    this.#turns.count();
    if (this.#farewell.isLeaving) this.#refusals.reset(request, 'refused_stream');
    else this.#admission.decide(request);
  }

  #onWindow(increment: number): void {
    this.#greeting.takeWindow(this.#window.giveBack(increment));
    if (this.#responses.isHeld) this.#application.read(() => this.#responses.release());
  }

  /** The client has broken the protocol: nothing that it sends can be trusted to be read as the application would. */
  #failClient(error: PicketError): void {
    if (!this.#end.isAhead) return;
    this.#options.refuse({ reason: 'protocol_error', message: error.message });
    this.#sayGoodbye(http2ErrorOf(error));
  }

  /** Ends after a last word to the client. */
  #sayGoodbye(error: Http2ErrorName): void {
    this.#sides.toClient.send(encodeGoAway(this.#streams.lastId, error));
    this.#end.afterRefusal();
  }

  #onOver(failure: StreamFailure | undefined): void {
    this.#streams.closeAll();
    this.#losses.stop();
    this.#farewell.stop();
    this.#sides.release();
    this.#options.onDone(failure);
  }

  #watchTime(): void {
    if (!this.#end.isAhead) return;
    const phase = this.#phase();
    this.#timer.watch(phase, this.#requests.count, () => {
      if (phase === 'head') this.#refuseSlow();
      else this.#farewell.leave();
    });
  }

  #phase(): TimedPhase | undefined {
    if (this.#requests.isWithinHead && this.#sides.isClientRead) return 'head';
    return this.#greeting.isSaid ? undefined : 'idle';
  }

  #refuseSlow(): void {
    this.#options.refuse({
      reason: 'protocol_error',
      message: `A request head took longer than ${PHASE_MS.head} ms`,
    });
    this.#sayGoodbye('no_error');
  }
}
