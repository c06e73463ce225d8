import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import type { Hop } from '../../traces/traces.ts';
import { findBodyBytes } from './body-length.ts';
import { HTTP2_LIMITS } from './limits.ts';
import type { Http2RelayOptions } from './relay-options.ts';

/** A request that was allowed and has not both come and been answered whole. */
export interface OpenStream {
  readonly http: DecisionHttpRequest;
  readonly headBytes: number;
  readonly isGrpc: boolean;
  readonly hop: Hop | undefined;
  /** What is to come of its body by its `content-length`; undefined where it does not say. */
  bodyBytesLeft: number | undefined;
  isRequestEnded: boolean;
  isResponseEnded: boolean;
  /** Whether the client has seen something of its answer. */
  isAnswered: boolean;
}

/** What became of the streams of one connection. */
export class Http2Streams {
  readonly #options: Pick<Http2RelayOptions, 'heads' | 'party'>;
  readonly #open = new Map<number, OpenStream>();
  /** Ended by us towards the client, which may still send: its frames end here. */
  readonly #refused = new Set<number>();
  #headBytes = 0;
  /** What of it counts in the party's share. */
  #sharedBytes = 0;
  /** The highest id that the client has used. */
  lastId = 0;
  /** Whether the application knows of any. */
  hasPassed = false;

  constructor(options: Pick<Http2RelayOptions, 'heads' | 'party'>) {
    this.#options = options;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Whether no further request may be under way. */
  get isFull(): boolean {
    const { heads, party } = this.#options;
    return (
      this.#open.size >= HTTP2_LIMITS.openStreams ||
      this.#headBytes > HTTP2_LIMITS.openHeadBytes ||
      (this.#headBytes > HTTP2_LIMITS.freeHeadBytes && !heads.hasRoomFor(party.name))
    );
  }

  /** A copy: streams may be ended while one goes through it. */
  get open(): readonly (readonly [streamId: number, stream: OpenStream])[] {
    return [...this.#open];
  }

  find(streamId: number): OpenStream | undefined {
    return this.#open.get(streamId);
  }

  add(
    streamId: number,
    {
      http,
      headBytes,
      isGrpc,
      hop,
      isRequestEnded,
    }: Pick<OpenStream, 'http' | 'headBytes' | 'isGrpc' | 'hop' | 'isRequestEnded'>,
  ): void {
    // By name: a copy of unknown fields is ten times as slow, for each request.
    this.#open.set(streamId, {
      http,
      headBytes,
      isGrpc,
      hop,
      bodyBytesLeft: findBodyBytes(http),
      isRequestEnded,
      isResponseEnded: false,
      isAnswered: false,
    });
    this.#countHead(headBytes);
  }

  endRequest(streamId: number): void {
    const stream = this.#open.get(streamId);
    if (stream === undefined) return;
    stream.isRequestEnded = true;
    if (stream.isResponseEnded) this.close(streamId);
  }

  endResponse(streamId: number): void {
    const stream = this.#open.get(streamId);
    if (stream === undefined) return;
    stream.isResponseEnded = true;
    if (stream.isRequestEnded) this.close(streamId);
  }

  /** It is over, or was reset by one of both sides. */
  close(streamId: number): void {
    const stream = this.#open.get(streamId);
    if (stream === undefined) return;
    this.#open.delete(streamId);
    stream.hop?.end();
    this.#countHead(-stream.headBytes);
  }

  /** The connection is over, and with it what was under way. */
  closeAll(): void {
    for (const [streamId] of this.open) this.close(streamId);
  }

  /** What the client still sends on it is swallowed. */
  refuse(streamId: number): void {
    remember(this.#refused, streamId);
  }

  isRefused(streamId: number): boolean {
    return this.#refused.size > 0 && this.#refused.has(streamId);
  }

  /** The client has ended a refused stream. False: it was not refused. */
  forgetRefused(streamId: number): boolean {
    return this.#refused.delete(streamId);
  }

  /** Mostly nothing is shared: a look at the share for each request would cost it more than this. */
  #countHead(bytes: number): void {
    this.#headBytes += bytes;
    const sharedBytes = Math.max(0, this.#headBytes - HTTP2_LIMITS.freeHeadBytes);
    if (sharedBytes === this.#sharedBytes) return;
    const { heads, party } = this.#options;
    heads.add(party.name, sharedBytes - this.#sharedBytes);
    this.#sharedBytes = sharedBytes;
  }
}

function remember(streamIds: Set<number>, streamId: number): void {
  streamIds.add(streamId);
  if (streamIds.size <= HTTP2_LIMITS.endedStreams) return;
  const [oldest] = streamIds;
  if (oldest !== undefined) streamIds.delete(oldest);
}
