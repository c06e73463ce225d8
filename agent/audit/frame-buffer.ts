import { MAX_AUDIT_RECORD_BYTES } from '../../shared/protocol/audit.ts';
import { FRAME_HEAD_BYTES, HASH_AT, HASH_BYTES } from '../../shared/protocol/audit-frame.ts';

/** From this length on they should be written. */
const FULL_BYTES = 64 * 1024;
/** A character takes at most three bytes of UTF-8 for each of its code units. */
const MAX_TEXT_BYTES = 3 * MAX_AUDIT_RECORD_BYTES;
const TWO_TO_32 = 0x1_0000_0000;

/** Frames of a spool segment that wait for their write, one behind the other, each with the hash that continues the chain. */
export class FrameBuffer {
  readonly #bytes = Buffer.allocUnsafeSlow(FULL_BYTES + FRAME_HEAD_BYTES + MAX_TEXT_BYTES);
  readonly #hash = Buffer.alloc(HASH_BYTES);
  #length = 0;
  #count = 0;

  /** Bytes of all frames. */
  get length(): number {
    return this.#length;
  }

  /** How many frames there are. */
  get count(): number {
    return this.#count;
  }

  /** Whether they should be written before another one is added. */
  get isFull(): boolean {
    return this.#length >= FULL_BYTES;
  }

  /** The hash of the last frame. Meaningless while there is none. */
  get lastHash(): Uint8Array {
    return this.#hash;
  }

  /** The frames, good until the next call. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /**
   * Adds the frame of a record. `previousHash` is that of the record before it: of the last frame here, or where there is none of the last one that was written. Returns false, and adds
   * nothing, where the text is longer than a record may be. It must not be full.
   */
  add(sequence: number, previousHash: Uint8Array, text: string): boolean {
    if (text.length > MAX_AUDIT_RECORD_BYTES) return false;
    const bytes = this.#bytes;
    const at = this.#length;
    const textAt = at + FRAME_HEAD_BYTES;
    const textBytes = bytes.write(text, textAt);
    if (textBytes > MAX_AUDIT_RECORD_BYTES) return false;
    bytes.writeUInt32BE(textBytes, at);
    bytes.writeUInt32BE(Math.floor(sequence / TWO_TO_32), at + 4);
    bytes.writeUInt32BE(sequence % TWO_TO_32, at + 8);
    // The hash covers that of the record before and the text: where its own will stand, the other one stands for the moment.
    bytes.set(previousHash, at + HASH_AT);
    Bun.SHA256.hash(bytes.subarray(at + HASH_AT, textAt + textBytes), this.#hash);
    bytes.set(this.#hash, at + HASH_AT);
    this.#length = textAt + textBytes;
    this.#count += 1;
    return true;
  }

  /** Takes all frames out. */
  clear(): void {
    this.#length = 0;
    this.#count = 0;
  }
}
