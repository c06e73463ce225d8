import { PicketError } from '../errors/errors.ts';
import { CR, isFieldText, isOwnedHeader, LF, SPACE, TAB, VALUE_BYTES } from './http1-syntax.ts';

/** What `BodyFollower` expects next. */
type BodyState =
  | 'none'
  | 'length'
  | 'size'
  | 'extension'
  | 'size_lf'
  | 'chunk'
  | 'chunk_cr'
  | 'chunk_lf'
  | 'trailer'
  | 'endless';

const MAX_SIZE_DIGITS = 8;
/** Of all extensions of one chunk, in bytes. */
const MAX_EXTENSION_BYTES = 4096;
/** Of all trailers of one message, in bytes. */
const MAX_TRAILER_BYTES = 16 * 1024;
const SEMICOLON = 59;
const TRAILER_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):(.*)\r\n$/;
/** Fields that would change framing, routing or identity after the decision (RFC 9110 6.5.1). */
const FORBIDDEN_TRAILERS = new Set(['content-length', 'transfer-encoding', 'host', 'connection', 'upgrade']);

/**
 * Follows the framing of message bodies without touching their bytes (RFC 9112 6 and 7.1). It holds no more than one trailer section. One
 * instance serves all messages of a direction, one after another.
 */
export class BodyFollower {
  #state: BodyState = 'none';
  #left = 0;
  /** Digits of a chunk size, or bytes of its extensions. */
  #count = 0;
  #trailer = '';
  #trailerBytes = 0;

  /** Whether the next byte belongs to a body, and not to a head. */
  get isInBody(): boolean {
    return this.#state !== 'none';
  }

  /** Whether every byte from here on belongs to the body, until the connection ends. */
  get isEndless(): boolean {
    return this.#state === 'endless';
  }

  beginLength(bytes: number): void {
    this.#state = bytes === 0 ? 'none' : 'length';
    this.#left = bytes;
  }

  beginChunked(): void {
    this.#state = 'size';
    this.#left = 0;
    this.#count = 0;
    this.#trailerBytes = 0;
  }

  beginEndless(): void {
    this.#state = 'endless';
  }

  /**
   * Moves over body bytes from `at` on; returns where the body ends in `bytes`, or `bytes.length` when it goes on. Throws
   * `invalid_argument`, reason `http1_body_refused`.
   */
  follow(bytes: Buffer, at: number): number {
    let next = at;
    while (next < bytes.length && this.#state !== 'none') next = this.#step(bytes, next);
    return next;
  }

  #step(bytes: Buffer, at: number): number {
    switch (this.#state) {
      case 'endless':
        return bytes.length;
      case 'length':
        return this.#pass(bytes, at, 'none');
      case 'chunk':
        return this.#pass(bytes, at, 'chunk_cr');
      case 'trailer':
        return this.#readTrailer(bytes, at);
      case 'none':
        return at;
      case 'size':
      case 'extension':
      case 'size_lf':
      case 'chunk_cr':
      case 'chunk_lf':
        this.#readByte(bytes[at] ?? 0);
        return at + 1;
    }
  }

  #pass(bytes: Buffer, at: number, next: BodyState): number {
    const length = Math.min(this.#left, bytes.length - at);
    this.#left -= length;
    if (this.#left === 0) this.#state = next;
    return at + length;
  }

  #readByte(byte: number): void {
    if (this.#state === 'size') this.#readSize(byte);
    else if (this.#state === 'extension') this.#readExtension(byte);
    else if (this.#state === 'size_lf') {
      if (byte !== LF) throw refused('a chunk size does not end its line with CRLF');
      this.#state = this.#left === 0 ? 'trailer' : 'chunk';
    } else if (this.#state === 'chunk_cr') {
      if (byte !== CR) throw refused('a chunk is longer than its size');
      this.#state = 'chunk_lf';
    } else {
      if (byte !== LF) throw refused('a chunk does not end with CRLF');
      this.#state = 'size';
      this.#count = 0;
    }
  }

  #readSize(byte: number): void {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      if (++this.#count > MAX_SIZE_DIGITS) throw refused('a chunk size is too long');
      this.#left = this.#left * 16 + digit;
      return;
    }
    if (this.#count === 0) throw refused('a chunk size is missing');
    this.#count = 0;
    if (byte === CR) this.#state = 'size_lf';
    else if (byte === SEMICOLON || byte === SPACE || byte === TAB) this.#state = 'extension';
    else throw refused('a chunk size is not a hexadecimal number');
  }

  #readExtension(byte: number): void {
    if (byte === CR) this.#state = 'size_lf';
    else if (VALUE_BYTES[byte] === 0) throw refused('a chunk extension holds a control character');
    else if (++this.#count > MAX_EXTENSION_BYTES) throw refused('a chunk extension is too long');
  }

  #readTrailer(bytes: Buffer, at: number): number {
    const lf = bytes.indexOf(LF, at);
    const end = lf < 0 ? bytes.length : lf + 1;
    this.#trailerBytes += end - at;
    if (this.#trailerBytes > MAX_TRAILER_BYTES) throw refused('the trailers are too long');
    this.#trailer += bytes.toString('latin1', at, end);
    if (lf < 0) return end;
    const line = this.#trailer;
    this.#trailer = '';
    if (line === '\r\n') this.#state = 'none';
    else requireTrailer(line);
    return end;
  }
}

function requireTrailer(line: string): void {
  const [, name, value = ''] = TRAILER_LINE.exec(line.toLowerCase()) ?? [];
  if (name === undefined || !isFieldText(value)) throw refused('a trailer is not valid');
  if (FORBIDDEN_TRAILERS.has(name.replaceAll('_', '-')) || isOwnedHeader(name))
    throw refused(`${name} stands in the trailers`);
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function refused(why: string): PicketError {
  return new PicketError('invalid_argument', 'http1_body_refused', `Cannot relay the body: ${why}`);
}
