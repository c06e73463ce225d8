import { PicketError } from '../errors/errors.ts';

/**
 * Reads big-endian values from a byte array, front to back, never past its end. Every read past the end throws
 * `invalid_argument`, reason `truncated`, and leaves the position where it was.
 */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** How many bytes have been read. */
  get offset(): number {
    return this.#offset;
  }

  /** How many bytes are left. */
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }

  /** The next byte without reading it. */
  peekU8(): number {
    this.#require(1);
    return this.#view.getUint8(this.#offset);
  }

  /** The next `length` bytes as a view, not a copy. A length that is not a whole number of bytes is a `RangeError`. */
  bytes(length: number): Uint8Array {
    if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`Cannot read ${length} bytes`);
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }

  /** All that is left, as a view; possibly empty. */
  rest(): Uint8Array {
    return this.bytes(this.remaining);
  }

  /** Throws `invalid_argument`, reason `trailing_bytes`, unless everything was read. */
  requireEnd(): void {
    if (this.remaining > 0)
      throw new PicketError(
        'invalid_argument',
        'trailing_bytes',
        `Cannot read the message: ${this.remaining} bytes are left after its end`,
      );
  }

  #take(length: number): number {
    this.#require(length);
    const start = this.#offset;
    this.#offset += length;
    return start;
  }

  #require(length: number): void {
    if (length > this.remaining)
      throw new PicketError(
        'invalid_argument',
        'truncated',
        `Cannot read ${length} bytes at offset ${this.#offset}: only ${this.remaining} are left`,
      );
  }
}
