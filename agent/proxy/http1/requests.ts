import { PicketError } from '../../../shared/errors/errors.ts';
import { BodyFollower } from '../../../shared/wire/http1-body.ts';
import { parseRequestHead, type RequestHead } from '../../../shared/wire/http1-head.ts';
import { beginsWith, scanHead } from './head-scan.ts';

/** A request head with the bytes that it was read from, good only during the call. */
export interface ReadRequest {
  readonly head: RequestHead;
  readonly bytes: Buffer;
}

/** What the client's bytes turn out to be. */
export interface RequestSink {
  /** A head; what becomes of its body is decided before this returns. After `hold` nothing more is read until `release`. */
  onHead(request: ReadRequest): void;
  /** Bytes of the body, good only during the call. */
  onBody(bytes: Uint8Array): void;
  /** The request is complete. */
  onComplete(): void;
}

/** The longest request head: longer ones are refused with 431. */
export const MAX_REQUEST_HEAD_BYTES = 64 * 1024;

/** A longer head is not remembered, for a connection's memory. */
const MAX_REMEMBERED_BYTES = 2048;
const NOTHING = Buffer.alloc(0);

/**
 * Takes requests apart one after another, each only after the one before was answered: `hold` stops it. Bytes that cannot be read in one way
 * alone throw `invalid_argument`: `http1_head_refused`, `http1_target_refused`, `http1_body_refused`, `http1_head_too_long`.
 */
export class RequestReader {
  readonly #body = new BodyFollower();
  #kept: Buffer = NOTHING;
  #scanned = 0;
  #isHeld = false;
  #count = 0;
  /** The last head and its bytes: a client that asks the same again is not parsed again, and its head is the same object. */
  #last: { readonly bytes: Buffer; readonly head: RequestHead; readonly end: number } | undefined;

  /** How many heads were read. */
  get count(): number {
    return this.#count;
  }

  /** Whether a head has begun and not ended. */
  get isInHead(): boolean {
    return !this.#isHeld && !this.#body.isInBody && this.#kept.length > 0;
  }

  /** Whether nothing more is read until `release`. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Whether a request is in the middle of its head or body. */
  get isInside(): boolean {
    return this.#body.isInBody || this.isInHead;
  }

  /** Whether anything that came was not read. */
  get hasKept(): boolean {
    return this.#kept.length > 0;
  }

  /** Whether more than a head's worth waits for `release`: the client should be held back. */
  get isFull(): boolean {
    return this.#isHeld && this.#kept.length > MAX_REQUEST_HEAD_BYTES;
  }

  /** Reads nothing more, not even the rest of the bytes that are being taken, until `release`. */
  hold(): void {
    this.#isHeld = true;
  }

  /** What came while it was held, for whoever reads on in another way. */
  surrender(): Uint8Array {
    const kept = this.#kept;
    this.#kept = NOTHING;
    return kept;
  }

  /** Takes bytes that came. */
  take(bytes: Buffer, sink: RequestSink): void {
    const isFirst = this.#kept.length === 0;
    this.#drain(isFirst ? bytes : Buffer.concat([this.#kept, bytes]), { sink, isOurs: !isFirst });
  }

  /** Goes on after `hold`, with what came meanwhile. */
  release(sink: RequestSink): void {
    this.#isHeld = false;
    if (this.#kept.length > 0) this.#drain(this.#kept, { sink, isOurs: true });
  }

  /** What is not ours is good only during the call: what is kept of it must be copied. */
  #drain(bytes: Buffer, { sink, isOurs }: { readonly sink: RequestSink; readonly isOurs: boolean }): void {
    let rest = bytes;
    while (rest.length > 0 && !this.#isHeld) {
      const next = this.#body.isInBody ? this.#takeBody(rest, sink) : this.#takeHead(rest, sink);
      if (next === undefined) break;
      rest = next;
    }
    if (rest.length === 0) this.#kept = NOTHING;
    else this.#kept = isOurs ? rest : Buffer.from(rest);
  }

  #takeBody(bytes: Buffer, sink: RequestSink): Buffer {
    const end = this.#body.follow(bytes, 0);
    sink.onBody(bytes.subarray(0, end));
    if (!this.#body.isInBody) sink.onComplete();
    return bytes.subarray(end);
  }

  #takeHead(bytes: Buffer, sink: RequestSink): Buffer | undefined {
    const read = this.#readHead(bytes);
    if (read === undefined) {
      this.#scanned = bytes.length;
      return undefined;
    }
    this.#scanned = 0;
    this.#count += 1;
    const { head, end } = read;
    if (head.isChunked) this.#body.beginChunked();
    else this.#body.beginLength(head.bodyBytes);
    const isAll = end === bytes.length;
    sink.onHead({ head, bytes: isAll ? bytes : bytes.subarray(0, end) });
    if (!this.#body.isInBody) sink.onComplete();
    return isAll ? NOTHING : bytes.subarray(end);
  }

  /** Undefined while the head is incomplete. */
  #readHead(bytes: Buffer): { readonly head: RequestHead; readonly end: number } | undefined {
    const last = this.#last;
    if (last !== undefined && beginsWith(bytes, last.bytes)) return last;
    const scan = scanHead(bytes, 0, this.#scanned);
    if (scan.kind === 'malformed') throw refused('http1_head_refused', 'a line does not end with CRLF');
    const end = scan.kind === 'complete' ? scan.end : bytes.length;
    if (end > MAX_REQUEST_HEAD_BYTES)
      throw refused('http1_head_too_long', `it is longer than ${MAX_REQUEST_HEAD_BYTES} bytes`);
    if (scan.kind === 'incomplete') return undefined;
    const head = parseRequestHead(bytes, 0, end);
    this.#last =
      end > MAX_REMEMBERED_BYTES ? undefined : { bytes: Buffer.from(bytes.subarray(0, end)), head, end };
    return { head, end };
  }
}

function refused(reason: string, why: string): PicketError {
  return new PicketError('invalid_argument', reason, `Cannot relay the request head: ${why}`);
}
