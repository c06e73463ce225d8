import { readHboneConnect, type ReadHboneConnect } from '../../../shared/wire/hbone-head.ts';
import type { FieldList } from '../../../shared/wire/hpack-decoder.ts';
import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { encodeFrame, encodeGoAway, FRAME, MAX_31_BITS } from '../../../shared/wire/http2-frame.ts';
import type { StreamFailure } from '../streams/byte-stream.ts';
import { HboneConnection, type HboneSide } from './connection.ts';
import { HBONE_LIMITS } from './limits.ts';
import type { HboneStream } from './stream.ts';
import { encodeAcceptance, encodeDenial, SERVER_GREETING } from './words.ts';
import type { Refusal } from '../judge/judge.ts';
import type { MeshServerSession } from '../mesh/protocol.ts';
import type { MeshServerOptions, OpeningDenial } from '../mesh/server-opening.ts';
import { PendingConnect } from './pending.ts';

/** How a request that is not even looked at is answered; undefined: by the status of the reason. */
interface Flaw {
  readonly refusal: Refusal;
  /** 0: by RST_STREAM, since it is no request at all. */
  readonly status: number;
}

const LEAVING_PING = encodeFrame(FRAME.ping, 0, { payload: new Uint8Array(8).fill(1) });

/** The called side of HBONE: each stream is a CONNECT, decided by itself, and then an application connection. */
export class HboneServer implements HboneSide, MeshServerSession {
  readonly #options: MeshServerOptions;
  readonly wire: HboneConnection;
  lastStreamId = 0;
  /** Of those that were not looked at too, since we go: the peer may say more on them until it has heard of that. */
  #lastSeenId = 0;
  /** Openings whose streams are gone, and that somebody still decides. */
  #abandoned = 0;
  /** Denials since a piece of bytes came, and which one. */
  #denials = 0;
  #deniedPiece = 0;
  #leaving: 'no' | 'told' | 'gone' = 'no';
  #isPeerLeaving = false;
  #cancelGrace = (): void => undefined;

  constructor(options: MeshServerOptions) {
    this.#options = options;
    const { socket, clock } = options;
    this.wire = new HboneConnection(this, {
      socket,
      clock,
      isServer: true,
      greeting: SERVER_GREETING,
    });
  }

  /** What crosses our GOAWAY is still served, until the peer has heard of it (RFC 9113 6.8). */
  retire(): void {
    if (this.#leaving !== 'no' || !this.wire.isOpen) return;
    this.#leaving = 'told';
    this.#cancelGrace = this.#options.clock.schedule(HBONE_LIMITS.graceMs, () => this.#leave());
    this.wire.send(encodeGoAway(MAX_31_BITS, 'no_error'));
    this.wire.send(LEAVING_PING);
  }

  giveWay(): void {
    this.#leave();
    this.wire.hasten();
  }

  isKnown(streamId: number): boolean {
    return streamId % 2 === 1 && streamId <= this.#lastSeenId;
  }

  onHead(
    streamId: number,
    stream: HboneStream | undefined,
    { fields, isEnd }: { readonly fields: FieldList; readonly isEnd: boolean },
  ): void {
    // On a stream of CONNECT nothing may follow but DATA (RFC 9113 8.5).
    if (stream !== undefined) return this.wire.refuse(streamId, 'protocol_error');
    if (streamId % 2 === 0 || streamId <= this.lastStreamId)
      throw http2Failure('protocol_error', 'a request has the id of no new stream');
    this.#lastSeenId = Math.max(this.#lastSeenId, streamId);
    // The peer was told that nobody looks at it.
    if (this.#leaving === 'gone') return;
    this.lastStreamId = streamId;
    if (this.wire.streams + this.#abandoned + this.#unreadDenials >= HBONE_LIMITS.openStreams)
      return this.wire.refuse(streamId, 'refused_stream');
    this.#open(this.wire.openStream(streamId), readHboneConnect(fields), isEnd);
  }

  onSettings(): void {
    // What counts for DATA the connection has heard.
  }

  onPong(): void {
    if (this.#leaving === 'told') this.#leave();
  }

  onGoAway(): void {
    this.#isPeerLeaving = true;
    this.#closeIfDone();
  }

  onStreamGone(): void {
    if (this.wire.isOpen && this.wire.streams === 0) this.#options.onIdle();
    this.#closeIfDone();
  }

  onBroken(why: string): void {
    this.#options.onBroken(why);
  }

  onClosed(failure: StreamFailure): void {
    this.#cancelGrace();
    this.#options.onClosed(failure);
  }

  #open(stream: HboneStream, read: ReadHboneConnect, isEnd: boolean): void {
    if (isEnd) stream.receiveEnd();
    const { newId, clock, openingMs, local, peer } = this.#options;
    const flaw = this.#findFlaw(read);
    const connect = read.kind === 'connect' ? read.connect : undefined;
    const pending = new PendingConnect(stream, {
      answer: (how) => this.#answer(stream, flaw, how),
      onSettled: () => cancel(),
      onAbandoned: () => (this.#abandoned += 1),
      onForgotten: () => (this.#abandoned -= 1),
    });
    const cancel = clock.schedule(openingMs, () => pending.giveUp());
    this.#options.onOpening({
      connectionId: newId(),
      isIdOfCaller: false,
      traceparent: connect?.traceparent,
      destination: connect?.destination ?? local,
      claimedSource: connect?.claimedSource ?? peer,
      ...(flaw !== undefined && { refusal: flaw.refusal }),
      accept: () => pending.accept(),
      deny: (denial) => pending.deny(denial),
      onAbandoned: (listener) => pending.onAbandoned(listener),
      // HBONE has no word for it.
      onLeaving: () => undefined,
    });
  }

  #findFlaw(read: ReadHboneConnect): Flaw | undefined {
    if (read.kind === 'malformed')
      return { status: 0, refusal: { reason: 'protocol_error', message: `It is no request: ${read.why}` } };
    if (read.kind === 'refused')
      return {
        status: read.status,
        refusal: {
          reason: read.status === 503 ? 'listener_not_registered' : 'protocol_error',
          message: read.why,
        },
      };
    // ztunnel asks for the very address that it dials.
    const { address } = read.connect.destination;
    if (address === this.#options.local.address) return undefined;
    const message = `${address} was asked for at ${this.#options.local.address}`;
    return { status: 400, refusal: { reason: 'listener_not_registered', message } };
  }

  #answer(stream: HboneStream, flaw: Flaw | undefined, denial: OpeningDenial | undefined): void {
    const { id } = stream;
    if (denial === undefined) return this.wire.send(encodeAcceptance(id, this.#options.target));
    [this.#denials, this.#deniedPiece] = [this.#unreadDenials + 1, this.wire.pieces];
    // Whoever lets it in all the same, too late, is told.
    stream.fail({ reason: denial.reason, message: denial.message });
    if (flaw?.status === 0) return this.wire.abandoned(stream, 'protocol_error');
    this.wire.send(encodeDenial(id, denial, flaw?.status));
    if (stream.isPeerEnded) this.wire.finished(stream);
    // The answer is whole, and nobody wants the rest of what was asked (RFC 9113 8.1).
    else this.wire.abandoned(stream, 'no_error');
  }

  /** What was denied while this piece of bytes is read, or since: its streams are open to the peer. */
  get #unreadDenials(): number {
    return this.#deniedPiece === this.wire.pieces ? this.#denials : 0;
  }

  /** From here on nothing new is looked at. */
  #leave(): void {
    if (this.#leaving === 'gone' || !this.wire.isOpen) return;
    this.#leaving = 'gone';
    this.#cancelGrace();
    this.wire.send(encodeGoAway(this.lastStreamId, 'no_error'));
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    const isLeaving = this.#leaving === 'gone' || this.#isPeerLeaving;
    if (isLeaving && this.wire.streams === 0) this.wire.close();
  }
}
