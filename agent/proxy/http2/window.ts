import { http2Failure } from '../../../shared/wire/http2-error.ts';
import { DEFAULT_WINDOW_BYTES, MAX_31_BITS } from '../../../shared/wire/http2-frame.ts';

/**
 * The client's window for a connection (RFC 9113 6.9), which the application fills and so do answers of ours. The application does not know of ours: what it is
 * told of the window is less by them, and until then it may believe in more room than there is.
 */
export class Http2Window {
  /** What the client takes. */
  #room = DEFAULT_WINDOW_BYTES;
  /** How much more the application believes in. */
  #debt = 0;

  /** The application sends a frame of `length` bytes. False: it would be more than the client takes, by our fault; it must wait. */
  trySpend(length: number): boolean {
    if (this.#debt > 0 && length > this.#room) return false;
    this.#room -= length;
    return true;
  }

  /** An answer of ours has a body of `length` bytes. False: there is no room for it. */
  trySpendOurs(length: number): boolean {
    if (length > this.#room) return false;
    this.#room -= length;
    this.#debt += length;
    return true;
  }

  /**
   * The client gives back `increment` bytes. Returns how many of them the application may have, at most all. Throws `http2_protocol_error` or
   * `http2_flow_control_error`.
   */
  giveBack(increment: number): number {
    if (increment === 0)
      throw http2Failure('protocol_error', 'WINDOW_UPDATE of the connection gives nothing');
    this.#room += increment;
    if (this.#room > MAX_31_BITS)
      throw http2Failure('flow_control_error', 'the window is larger than 2^31-1');
    const paid = Math.min(this.#debt, increment);
    this.#debt -= paid;
    return increment - paid;
  }
}
