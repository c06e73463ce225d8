/** What an entry costs beside its texts (RFC 7541 4.1). */
const ENTRY_OVERHEAD_BYTES = 32;

/** The dynamic table that an encoder builds up in its decoder (RFC 7541 2.3.2). Its texts have one byte for each character. */
export class HpackTable {
  /** Newest last. */
  readonly #names: string[] = [];
  readonly #values: string[] = [];
  #bytes = 0;
  #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** How large the encoder said that it is at most. */
  get maxBytes(): number {
    return this.#maxBytes;
  }

  get length(): number {
    return this.#names.length;
  }

  /** `index` counts from the newest entry, which is 0. Undefined where there is none. */
  nameAt(index: number): string | undefined {
    return this.#names[this.#names.length - 1 - index];
  }

  valueAt(index: number): string | undefined {
    return this.#values[this.#values.length - 1 - index];
  }

  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evict();
  }

  /** Adds an entry; one that is larger than the table empties it (RFC 7541 4.4). */
  insert(name: string, value: string): void {
    this.#names.push(name);
    this.#values.push(value);
    this.#bytes += sizeOf(name, value);
    if (this.#bytes > this.#maxBytes) this.#evict();
  }

  #evict(): void {
    let count = 0;
    for (; this.#bytes > this.#maxBytes; count++)
      this.#bytes -= sizeOf(this.#names[count] ?? '', this.#values[count] ?? '');
    if (count === 0) return;
    this.#names.splice(0, count);
    this.#values.splice(0, count);
  }
}

/** The size of a field as header tables and lists count it. */
export function sizeOf(name: string, value: string): number {
  return name.length + value.length + ENTRY_OVERHEAD_BYTES;
}
