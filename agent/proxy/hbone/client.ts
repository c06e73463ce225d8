import type { Clock } from '../../../shared/runtime/clock.ts';
import { readHboneAnswer } from '../../../shared/wire/hbone-head.ts';
import type { FieldList } from '../../../shared/wire/hpack-decoder.ts';
import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { MAX_31_BITS } from '../../../shared/wire/http2-frame.ts';
import { SETTING, type Settings } from '../../../shared/wire/http2-settings.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import { HboneConnection, type HboneSide } from './connection.ts';
import { HBONE_LIMITS } from './limits.ts';
import type { HboneStream } from './stream.ts';
import { CLIENT_GREETING, encodeConnect, readDenial, type HboneRequest } from './words.ts';
import type { MeshClient, MeshClientEvents } from '../mesh/dialer-connection.ts';
import type { TunnelSocket } from '../tunnel/tunnel.ts';

/** What became of a CONNECT. `lost`: it was not looked at, or the connection ended before the answer; nothing was delivered. */
export type HboneOutcome =
  | { readonly kind: 'accepted'; readonly stream: ByteStream }
  | { readonly kind: 'denied' | 'failed' | 'lost'; readonly failure: StreamFailure };

export interface HboneClientOptions extends MeshClientEvents {
  readonly socket: TunnelSocket;
  readonly clock: Clock;
  /** How long the other host may take to answer. */
  readonly answerMs: number;
}

interface Asked {
  readonly settle: (outcome: HboneOutcome) => void;
  interimAnswers: number;
}

/** The calling side of HBONE: many application connections on one of TLS. */
export class HboneClient implements HboneSide, MeshClient {
  readonly #options: HboneClientOptions;
  readonly wire: HboneConnection;
  readonly #asked = new Map<number, Asked>();
  /** The peer opens none. */
  readonly lastStreamId = 0;
  #nextId = 1;
  #maxStreams: number = HBONE_LIMITS.ownStreams;
  #isRetired = false;

  constructor(options: HboneClientOptions) {
    this.#options = options;
    const { socket, clock } = options;
    this.wire = new HboneConnection(this, {
      socket,
      clock,
      isServer: false,
      greeting: CLIENT_GREETING,
    });
  }

  get isUsable(): boolean {
    return this.wire.isOpen && !this.#isRetired && this.freeStreams > 0;
  }

  /** How many more streams the peer takes. */
  get freeStreams(): number {
    return this.#nextId > MAX_31_BITS ? 0 : this.#maxStreams - this.wire.streams;
  }

  /** Whether it only ends what it carries. */
  get isRetired(): boolean {
    return this.#isRetired || !this.wire.isOpen;
  }

  get streams(): number {
    return this.wire.streams;
  }

  /** Whether it carries nothing and the peer takes no stream: nothing will come of it. */
  get isBarren(): boolean {
    return this.wire.streams === 0 && this.freeStreams <= 0;
  }

  /** Asks for a connection. It never rejects. No byte of the application leaves before the answer. */
  async open(request: HboneRequest): Promise<HboneOutcome> {
    if (!this.isUsable) return { kind: 'lost', failure: { message: 'The connection is not usable' } };
    const id = this.#nextId;
    this.#nextId += 2;
    const stream = this.wire.openStream(id);
    const { promise, resolve } = Promise.withResolvers<HboneOutcome>();
    this.#asked.set(id, { settle: resolve, interimAnswers: 0 });
    stream.onUnanswered = (end) => {
      const isLost = end.isRefused || !this.wire.isOpen;
      this.#settle(id, { kind: isLost ? 'lost' : 'failed', failure: { message: end.message } });
    };
    this.wire.send(encodeConnect(id, request));
    const cancel = this.#options.clock.schedule(this.#options.answerMs, () => this.#giveUp(stream));
    const outcome = await promise;
    cancel();
    return outcome;
  }

  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  isKnown(streamId: number): boolean {
    return streamId % 2 === 1 && streamId < this.#nextId;
  }

  onHead(
    streamId: number,
    stream: HboneStream | undefined,
    { fields, isEnd }: { readonly fields: FieldList; readonly isEnd: boolean },
  ): void {
    if (stream === undefined) {
      if (!this.isKnown(streamId)) throw http2Failure('protocol_error', 'an answer came unasked');
      return;
    }
    const asked = this.#asked.get(streamId);
    // On a stream of CONNECT nothing may follow but DATA (RFC 9113 8.5).
    if (asked === undefined) return this.wire.refuse(streamId, 'protocol_error');
    const answer = readHboneAnswer(fields);
    if (typeof answer === 'string') return this.wire.refuse(streamId, 'protocol_error');
    if (answer.status < 200) return this.#interim(streamId, asked, isEnd);
    if (answer.status < 300) return this.#accepted(stream, isEnd);
    this.#settle(streamId, deniedOr(readDenial(answer)));
    stream.discard();
    this.wire.abandoned(stream, 'cancel');
  }

  onSettings(settings: Settings): void {
    const streams = settings.get(SETTING.maxConcurrentStreams);
    if (streams === undefined) return;
    this.#maxStreams = Math.min(streams, HBONE_LIMITS.ownStreams);
    this.#closeIfDone();
  }

  onPong(): void {
    // A sign of life, which the connection has noticed.
  }

  onGoAway(lastStreamId: number): void {
    this.#isRetired = true;
    this.wire.refuseBeyond(lastStreamId);
    this.#closeIfDone();
  }

  onStreamGone(): void {
    this.#closeIfDone();
    if (this.wire.isOpen && this.wire.streams === 0) this.#options.onIdle();
  }

  onBroken(why: string): void {
    this.#options.onBroken(why);
  }

  onClosed(failure: StreamFailure): void {
    this.#options.onClosed(failure);
  }

  #accepted(stream: HboneStream, isEnd: boolean): void {
    stream.onUnanswered = undefined;
    this.#settle(stream.id, { kind: 'accepted', stream });
    if (isEnd) stream.receiveEnd();
  }

  #interim(streamId: number, asked: Asked, isEnd: boolean): void {
    asked.interimAnswers += 1;
    if (isEnd || asked.interimAnswers > HBONE_LIMITS.interimAnswers)
      this.wire.refuse(streamId, 'protocol_error');
  }

  #giveUp(stream: HboneStream): void {
    this.#settle(stream.id, {
      kind: 'failed',
      failure: { message: 'The other host did not answer in time' },
    });
    stream.discard();
    this.wire.abandoned(stream, 'cancel');
  }

  #settle(streamId: number, outcome: HboneOutcome): void {
    const asked = this.#asked.get(streamId);
    this.#asked.delete(streamId);
    asked?.settle(outcome);
  }

  #closeIfDone(): void {
    if (this.isBarren || (this.#isRetired && this.wire.streams === 0)) this.wire.close();
  }
}

/** What the other host cannot, or could not read, is no decision of its. */
function deniedOr(failure: StreamFailure): HboneOutcome {
  const isFailure =
    failure.decisionId === undefined &&
    (failure.reason === 'target_unreachable' || failure.reason === 'protocol_error');
  return { kind: isFailure ? 'failed' : 'denied', failure };
}
