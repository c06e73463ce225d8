import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { FLAG, readUint31, type FrameHeader } from '../../../shared/wire/http2-frame.ts';
import { HTTP2_LIMITS } from './limits.ts';

interface Range {
  readonly start: number;
  readonly end: number;
}

/** A whole header block of a stream. */
export interface HeaderBlock extends Range {
  readonly bytes: Buffer;
  readonly streamId: number;
  readonly isEnd: boolean;
}

const PRIORITY_BYTES = 5;

/** Puts header blocks together from HEADERS and CONTINUATION, which nothing may stand between (RFC 9113 4.3, 6.2, 6.10). */
export class HeaderBlockReader {
  #streamId = 0;
  #isEnd = false;
  #parts: Buffer[] = [];
  #bytes = 0;
  #continuations = 0;

  /** Of the block that has begun and not ended; 0 for none. */
  get streamId(): number {
    return this.#streamId;
  }

  /** Takes a whole HEADERS frame. Returns its block if that ends with it. */
  begin(header: FrameHeader, bytes: Buffer, payload: Range): HeaderBlock | undefined {
    const { start, end } = withoutFrills(header, bytes, payload);
    const { streamId, flags } = header;
    const isEnd = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) return { bytes, start, end, streamId, isEnd };
    this.#streamId = streamId;
    this.#isEnd = isEnd;
    this.#continuations = 0;
    this.#keep(bytes, start, end);
    return undefined;
  }

  /** Takes a whole CONTINUATION frame of the block that has begun. */
  goOn({ flags }: FrameHeader, bytes: Buffer, { start, end }: Range): HeaderBlock | undefined {
    this.#continuations++;
    if (this.#continuations > HTTP2_LIMITS.continuations)
      throw http2Failure('enhance_your_calm', 'a header block has too many CONTINUATION frames');
    this.#keep(bytes, start, end);
    if ((flags & FLAG.endHeaders) === 0) return undefined;
    const whole = Buffer.concat(this.#parts);
    const block = { bytes: whole, start: 0, end: whole.length, streamId: this.#streamId, isEnd: this.#isEnd };
    this.#parts = [];
    this.#bytes = 0;
    this.#streamId = 0;
    return block;
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    this.#bytes += end - start;
    if (this.#bytes > HTTP2_LIMITS.blockBytes)
      throw http2Failure(
        'enhance_your_calm',
        `a header block is longer than ${HTTP2_LIMITS.blockBytes} bytes`,
      );
    this.#parts.push(Buffer.from(bytes.subarray(start, end)));
  }
}

/** The part of a HEADERS frame's payload that is the block: without padding and priority. */
function withoutFrills({ flags, streamId }: FrameHeader, bytes: Buffer, payload: Range): Range {
  let { start, end } = payload;
  if ((flags & FLAG.padded) !== 0) {
    end -= bytes[start] ?? 0;
    start += 1;
  }
  if ((flags & FLAG.priority) !== 0) {
    if (end - start >= PRIORITY_BYTES && readUint31(bytes, start) === streamId)
      throw http2Failure('protocol_error', 'a stream depends on itself');
    start += PRIORITY_BYTES;
  }
  if (start > end) throw http2Failure('protocol_error', 'HEADERS is shorter than its padding and priority');
  return { start, end };
}
