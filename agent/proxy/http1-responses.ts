import { PicketError } from '../../shared/errors/errors.ts';
import { BodyFollower } from '../../shared/wire/http1-body.ts';
import { parseResponseHead, type AnsweredRequest } from '../../shared/wire/http1-response-head.ts';
import { scanHead } from './http1-head-scan.ts';

/** What the application's bytes turn out to be. */
export interface ResponseSink {
  /** Bytes for the client, good only during the call. */
  onBytes(bytes: Uint8Array): void;
  /** The answer to the expected request is complete. */
  onComplete(): void;
  /** 101: everything from here on is neither requests nor answers. */
  onUpgrade(): void;
}

/** The longest response head. */
const MAX_HEAD_BYTES = 256 * 1024;

/**
 * Follows the answers of an application without changing them, so that the end of each is known. Bytes that answer no request, and a head whose framing is in
 * doubt, throw `invalid_argument`, reason `http1_response_refused`.
 */
export class ResponseReader {
  readonly #body = new BodyFollower();
  #expected: AnsweredRequest | undefined;
  #head = Buffer.alloc(0);
  #scanned = 0;
  #hasBegun = false;
  #isUpgraded = false;

  /** Whether the client has got a part of the expected answer; interim ones (1xx) do not count. */
  get hasBegun(): boolean {
    return this.#hasBegun;
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
    const rest = bytes.subarray(end);
    if (!this.#body.isInBody) this.#completeWith(rest, sink);
    return rest;
  }

  #takeHead(bytes: Buffer, sink: ResponseSink): Buffer {
    const request = this.#expected;
    if (request === undefined) throw refused('the application answers no request');
    const head = this.#head.length === 0 ? bytes : Buffer.concat([this.#head, bytes]);
    const scan = scanHead(head, 0, this.#scanned);
    if (scan.kind === 'malformed') throw refused('a line of its head does not end with CRLF');
    if (scan.kind === 'incomplete') return this.#keepHead(head);
    this.#head = Buffer.alloc(0);
    this.#scanned = 0;
    const framing = parseResponseHead(head, { start: 0, end: scan.end }, request);
    this.#hasBegun ||= framing.kind !== 'interim';
    if (framing.kind === 'length') this.#body.beginLength(framing.bytes);
    else if (framing.kind === 'chunked') this.#body.beginChunked();
    else if (framing.kind === 'until_close') this.#body.beginEndless();
    if (this.#body.isInBody) return this.#takeBody(head, scan.end, sink);
    sink.onBytes(head.subarray(0, scan.end));
    if (framing.kind === 'upgraded') this.#upgrade(sink);
    const rest = head.subarray(scan.end);
    if (framing.kind === 'length' && framing.bytes === 0) this.#completeWith(rest, sink);
    return rest;
  }

  #keepHead(head: Buffer): Buffer {
    if (head.length > MAX_HEAD_BYTES) throw refused(`its head is longer than ${MAX_HEAD_BYTES} bytes`);
    this.#scanned = head.length;
    this.#head = Buffer.from(head);
    return Buffer.alloc(0);
  }

  #upgrade(sink: ResponseSink): void {
    this.#isUpgraded = true;
    this.#expected = undefined;
    sink.onUpgrade();
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

function refused(why: string): PicketError {
  return new PicketError('invalid_argument', 'http1_response_refused', `Cannot relay the response: ${why}`);
}
