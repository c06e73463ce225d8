import { PicketError } from '../../../shared/errors/errors.ts';
import { BodyFollower } from '../../../shared/wire/http1-body.ts';
import { findKeepAliveSeconds } from '../../../shared/wire/http1-keep-alive.ts';
import {
  announceClose,
  parseResponseHead,
  type AnsweredRequest,
  type ResponseFraming,
} from '../../../shared/wire/http1-response-head.ts';
import { beginsWith, scanHead } from './head-scan.ts';

/** What the application's bytes turn out to be. */
export interface ResponseSink {
  /** Bytes for the client, good only during the call. */
  onBytes(bytes: Uint8Array): void;
  /** Asked once for each answer whose head has come: whether the connection ends after it, so that its head says so. */
  isLast(): boolean;
  /** The answer to the expected request is complete. */
  onComplete(): void;
}

/** The longest response head. */
const MAX_HEAD_BYTES = 256 * 1024;
/** A longer head is not remembered, for a connection's memory. */
const MAX_REMEMBERED_BYTES = 2048;
const NOTHING = Buffer.alloc(0);

/** A head that was read. */
interface ReadHead {
  readonly end: number;
  readonly framing: ResponseFraming;
  readonly keepAliveSeconds: number | undefined;
}

/** What the head of an answer meant. Applications answer alike, and the same bytes mean the same again. */
interface RememberedHead extends ReadHead {
  readonly bytes: Buffer;
  readonly request: AnsweredRequest;
}

/**
 * Follows the answers of an application without changing them, so that the end of each is known. Bytes that answer no request, and a head whose framing is in
 * doubt, throw `invalid_argument`, reason `http1_response_refused`.
 */
export class ResponseReader {
  readonly #body = new BodyFollower();
  #expected: AnsweredRequest | undefined;
  #head: Buffer = NOTHING;
  #scanned = 0;
  #last: RememberedHead | undefined;
  #hasBegun = false;
  #isUpgraded = false;
  #keepAliveSeconds: number | undefined;

  /** Whether the client has got a part of the expected answer; interim ones (1xx) do not count. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Whether it has switched protocols (101): everything from there on is neither requests nor answers. */
  get isUpgraded(): boolean {
    return this.#isUpgraded;
  }

  /** For how many idle seconds the application keeps its connection, as its last head said; undefined where it did not say. */
  get keepAliveSeconds(): number | undefined {
    return this.#keepAliveSeconds;
  }

  /** The next answer is to this request. */
  expect(request: AnsweredRequest): void {
    this.#expected = request;
    this.#hasBegun = false;
  }

  take(bytes: Buffer, sink: ResponseSink): void {
    let rest = bytes;
    while (rest.length > 0) {
      if (this.#isUpgraded) return sink.onBytes(rest);
      rest = this.#body.isInBody ? this.#takeBody(rest, 0, sink) : this.#takeHead(rest, sink);
    }
  }

  /** The application sends no more: true if that completes the expected answer, or none is expected. */
  end(sink: ResponseSink): boolean {
    if (this.#isUpgraded || this.#expected === undefined) return true;
    if (!this.#body.isEndless) return false;
    this.#complete(sink);
    return true;
  }

  /** `bodyAt`: where the body begins behind a head that was not handed on yet. They leave together: one record of TLS instead of two. */
  #takeBody(bytes: Buffer, bodyAt: number, sink: ResponseSink): Buffer {
    const end = this.#body.follow(bytes, bodyAt);
    sink.onBytes(end === bytes.length ? bytes : bytes.subarray(0, end));
    const rest = end === bytes.length ? NOTHING : bytes.subarray(end);
    if (!this.#body.isInBody) this.#completeWith(rest, sink);
    return rest;
  }

  #takeHead(bytes: Buffer, sink: ResponseSink): Buffer {
    const request = this.#expected;
    if (request === undefined) throw refused('the application answers no request');
    const head = this.#head.length === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    const read = this.#readHead(head, request);
    if (read === undefined) return this.#keepHead(head);
    const { end, framing } = read;
    this.#keepAliveSeconds = read.keepAliveSeconds;
    this.#head = NOTHING;
    this.#scanned = 0;
    this.#hasBegun ||= framing.kind !== 'interim';
    if (framing.kind === 'length') this.#body.beginLength(framing.bytes);
    else if (framing.kind === 'chunked') this.#body.beginChunked();
    else if (framing.kind === 'until_close') this.#body.beginEndless();
    const isFinal = framing.kind !== 'interim' && framing.kind !== 'upgraded';
    if (isFinal && sink.isLast()) sink.onBytes(announceClose(head.subarray(0, end)));
    else if (this.#body.isInBody) return this.#takeBody(head, end, sink);
    else sink.onBytes(head.subarray(0, end));
    if (framing.kind === 'upgraded') this.#upgrade();
    const rest = head.subarray(end);
    if (framing.kind === 'length' && framing.bytes === 0) this.#completeWith(rest, sink);
    return rest;
  }

  /** Undefined while the head is incomplete. */
  #readHead(bytes: Buffer, request: AnsweredRequest): ReadHead | undefined {
    const last = this.#last;
    if (last !== undefined && isAlike(last.request, request) && beginsWith(bytes, last.bytes)) return last;
    const scan = scanHead(bytes, 0, this.#scanned);
    if (scan.kind === 'malformed') throw refused('a line of its head does not end with CRLF');
    if (scan.kind === 'incomplete') return undefined;
    const { end } = scan;
    const framing = parseResponseHead(bytes, { start: 0, end }, request);
    const keepAliveSeconds = findKeepAliveSeconds(bytes.subarray(0, end));
    const head = { end, framing, keepAliveSeconds, request };
    this.#last =
      end > MAX_REMEMBERED_BYTES ? undefined : { ...head, bytes: Buffer.from(bytes.subarray(0, end)) };
    return head;
  }

  #keepHead(head: Buffer): Buffer {
    if (head.length > MAX_HEAD_BYTES) throw refused(`its head is longer than ${MAX_HEAD_BYTES} bytes`);
    this.#scanned = head.length;
    this.#head = Buffer.from(head);
    return NOTHING;
  }

  #upgrade(): void {
    this.#isUpgraded = true;
    this.#expected = undefined;
  }

  /** What already stands behind an answer was not asked for: it must not become the answer to the request that is let through next. */
  #completeWith(rest: Buffer, sink: ResponseSink): void {
    if (rest.length > 0) throw refused('the application answers more than was asked');
    this.#complete(sink);
  }

  #complete(sink: ResponseSink): void {
    this.#expected = undefined;
    sink.onComplete();
  }
}

function isAlike(a: AnsweredRequest, b: AnsweredRequest): boolean {
  return a.isHead === b.isHead && a.wantsUpgrade === b.wantsUpgrade;
}

function refused(why: string): PicketError {
  return new PicketError('invalid_argument', 'http1_response_refused', `Cannot relay the response: ${why}`);
}
