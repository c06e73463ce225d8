import { FLAG, FRAME, MIN_MAX_FRAME_BYTES, writeFrameHeader } from '../../../shared/wire/http2-frame.ts';
import { EMPTY_TABLE } from '../../../shared/wire/hpack-encoder.ts';

const SCRATCH_BYTES = 128 * 1024;
/** A longer piece is sent as it is: a copy would cost more than another call. */
const DIRECT_BYTES = 16 * 1024;

/** What one output has collected. All outputs share one buffer: only one of them is written at a time. */
interface Scratch {
  readonly bytes: Buffer;
  length: number;
  owner: Http2Output | undefined;
}

const scratch: Scratch = { bytes: Buffer.alloc(SCRATCH_BYTES), length: 0, owner: undefined };

/** Collects the frames of one pass over incoming bytes, to send them at once. Whoever appends flushes before the event loop goes on. */
export class Http2Output {
  readonly #send: (bytes: Uint8Array) => void;

  /** `send` keeps a copy of what it cannot send at once. */
  constructor(send: (bytes: Uint8Array) => void) {
    this.#send = send;
  }

  append(bytes: Uint8Array, start = 0, end = bytes.length): void {
    const length = end - start;
    if (length >= DIRECT_BYTES) {
      this.flush();
      this.#send(bytes.subarray(start, end));
      return;
    }
    const at = this.#reserve(length);
    scratch.bytes.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end), at);
  }

  /**
   * A header block as HEADERS, with as many CONTINUATION as it needs. `isFirst`: the reader's table is emptied by it, for good.
   */
  appendBlock(
    block: Uint8Array,
    stream: { readonly streamId: number; readonly isEnd: boolean; readonly isFirst: boolean },
  ): void {
    const { streamId, isEnd, isFirst } = stream;
    let from = 0;
    let type: number = FRAME.headers;
    let ahead = isFirst ? 1 : 0;
    do {
      const length = Math.min(block.length - from, MIN_MAX_FRAME_BYTES - ahead);
      const isLast = from + length === block.length;
      const flags = (isLast ? FLAG.endHeaders : 0) | (isEnd && type === FRAME.headers ? FLAG.endStream : 0);
      const frame = this.#reserve(9 + ahead + length);
      const header = { length: ahead + length, type, flags, streamId };
      const at = writeFrameHeader(scratch.bytes, frame, header);
      if (ahead > 0) scratch.bytes[at] = EMPTY_TABLE;
      scratch.bytes.set(length === block.length ? block : block.subarray(from, from + length), at + ahead);
      from += length;
      ahead = 0;
      type = FRAME.continuation;
    } while (from < block.length);
  }

  /** Sends what was collected. */
  flush(): void {
    if (scratch.owner !== this || scratch.length === 0) return;
    const collected = scratch.bytes.subarray(0, scratch.length);
    scratch.length = 0;
    this.#send(collected);
  }

  #reserve(length: number): number {
    if (scratch.owner !== this) {
      scratch.owner?.flush();
      scratch.owner = this;
    }
    if (scratch.length + length > SCRATCH_BYTES) this.flush();
    const at = scratch.length;
    scratch.length += length;
    return at;
  }
}
