const FIRST_CAPACITY = 64;

/** How large a message grows unless the caller says otherwise: 16 MiB. */
const DEFAULT_LIMIT_BYTES = 16 * 1024 * 1024;

/**
 * Writes big-endian values into a buffer that grows up to `limitBytes`. A value that does not fit its width, or a message
 * beyond the limit, is the caller's mistake: `RangeError`.
 */
export class ByteWriter {
  readonly #limitBytes: number;
  #bytes = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  constructor(options: { readonly limitBytes?: number } = {}) {
    this.#limitBytes = options.limitBytes ?? DEFAULT_LIMIT_BYTES;
  }

  /** How many bytes have been written. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    requireUnsigned(value, 0xff);
    const start = this.#grow(1);
    this.#view.setUint8(start, value);
    return this;
  }

  u16(value: number): this {
    requireUnsigned(value, 0xffff);
    const start = this.#grow(2);
    this.#view.setUint16(start, value);
    return this;
  }

  u32(value: number): this {
    requireUnsigned(value, 0xffff_ffff);
    const start = this.#grow(4);
    this.#view.setUint32(start, value);
    return this;
  }

  u64(value: bigint): this {
    if (BigInt.asUintN(64, value) !== value) throw new RangeError(`${value} does not fit 64 bits`);
    const start = this.#grow(8);
    this.#view.setBigUint64(start, value);
    return this;
  }

  bytes(value: Uint8Array): this {
    const start = this.#grow(value.length);
    this.#bytes.set(value, start);
    return this;
  }

  /** A copy of what was written. */
  toBytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(length: number): number {
    const start = this.#length;
    const end = start + length;
    if (end > this.#limitBytes)
      throw new RangeError(`A message of ${end} bytes exceeds its limit of ${this.#limitBytes}`);
    if (end > this.#bytes.length) this.#reallocate(end);
    this.#length = end;
    return start;
  }

  #reallocate(atLeast: number): void {
    const grown = new Uint8Array(Math.max(atLeast, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function requireUnsigned(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new RangeError(`${value} is not a whole number from 0 to ${max}`);
}
