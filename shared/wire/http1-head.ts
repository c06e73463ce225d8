import { PicketError } from '../errors/errors.ts';
import {
  COLON,
  CR,
  hasTwins,
  isMisspelledFraming,
  isMisspelledMethod,
  isOwnedHeader,
  LF,
  SPACE,
  TAB,
  TARGET_BYTES,
  TOKEN_BYTES,
  VALUE_BYTES,
} from './http1-syntax.ts';
import { parseRequestTarget, requireAuthority } from './http1-target.ts';

/** A request head, read so that no other parser can read it otherwise (RFC 9112; section 11 on smuggling). */
export interface RequestHead {
  readonly method: string;
  /** Path and query as the application gets them; an absolute-form target is passed on whole and shows only its path here. */
  readonly path: string;
  /** Whether the target names the scheme `http` and the host itself (absolute form, RFC 9112 3.2.2). */
  readonly isAbsolute: boolean;
  readonly host: string;
  /** By lower-case name, values of repeated fields joined with a comma; without the fields that are cut. Has no prototype. */
  readonly headers: Readonly<Record<string, string>>;
  readonly isChunked: boolean;
  /** Bytes of the body when it is not chunked; 0 for none. */
  readonly bodyBytes: number;
  /** Whether the client wants the connection to end after the answer. */
  readonly closes: boolean;
  readonly expectsContinue: boolean;
  readonly wantsUpgrade: boolean;
  /** Byte ranges of fields that are not passed on, as offsets from the start of the head: start, end, start, end, ... */
  readonly cuts: readonly number[];
}

const MAX_METHOD_BYTES = 32;
const MAX_FIELDS = 256;
const CONTENT_LENGTH = /^[0-9]{1,15}$/;
/** Any other option would make the next hop drop that header, ours among them. */
const CONNECTION_OPTIONS = new Set(['close', 'keep-alive', 'upgrade', 'te', 'http2-settings', '']);

/**
 * Parses the head in `bytes` from `start` to `end`, which is after its empty line. Fields that name the caller, and an offer of HTTP/2
 * (by which all later requests would pass undecided), are listed as cuts. Throws `invalid_argument`, reason
 * `http1_head_refused` or `http1_target_refused`, for everything that is not beyond doubt.
 */
export function parseRequestHead(bytes: Buffer, start: number, end: number): RequestHead {
  return new HeadParser(bytes, start, end).parse();
}

/** The head that goes to the application: cut fields left out, `lines` (whole field lines) added before the empty line. */
export function rebuildHead(
  bytes: Uint8Array,
  range: { readonly start: number; readonly end: number; readonly cuts: readonly number[] },
  lines: Uint8Array,
): Uint8Array {
  const { start, end, cuts } = range;
  let length = end - start + lines.length;
  for (let i = 0; i < cuts.length; i += 2) length -= (cuts[i + 1] ?? 0) - (cuts[i] ?? 0);
  const head = new Uint8Array(length);
  let from = start;
  let at = 0;
  for (let i = 0; i <= cuts.length; i += 2) {
    const to = i < cuts.length ? start + (cuts[i] ?? 0) : end - 2;
    head.set(bytes.subarray(from, to), at);
    at += to - from;
    from = start + (cuts[i + 1] ?? 0);
  }
  head.set(lines, at);
  head[length - 2] = CR;
  head[length - 1] = LF;
  return head;
}

class HeadParser {
  readonly #bytes: Buffer;
  readonly #start: number;
  /** After the CRLF of the last field line. */
  readonly #end: number;
  readonly #headers = Object.create(null) as Record<string, string>;
  readonly #cuts: number[] = [];
  #at: number;
  #isVersion10 = false;
  #host: string | null = null;
  #contentLength = -1;
  #isChunked = false;
  #connection = '';
  #upgrade = false;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#at = start;
    this.#end = end - 2;
  }

  parse(): RequestHead {
    const method = this.#readMethod();
    const target = this.#readTarget();
    this.#readVersion();
    for (let fields = 0; this.#at < this.#end; fields++) {
      if (fields === MAX_FIELDS) throw refused(`more than ${MAX_FIELDS} fields`);
      this.#readField();
    }
    if (this.#isChunked && this.#contentLength >= 0) throw refused('Content-Length and Transfer-Encoding');
    if (hasTwins(this.#headers)) throw refused('two fields differ in their marks alone');
    const { path, authority } = parseRequestTarget(method, target);
    const host = this.#requireHost(authority);
    const options = this.#connectionOptions();
    return {
      method,
      path,
      isAbsolute: authority !== null,
      host,
      headers: this.#headers,
      isChunked: this.#isChunked,
      bodyBytes: Math.max(0, this.#contentLength),
      closes: options.has('close') || (this.#isVersion10 && !options.has('keep-alive')),
      expectsContinue: this.#headers['expect'] !== undefined,
      wantsUpgrade: this.#upgrade && options.has('upgrade'),
      cuts: this.#cuts,
    };
  }

  #readMethod(): string {
    const start = this.#at;
    while (TOKEN_BYTES[this.#byte()] !== 0) this.#at++;
    const length = this.#at - start;
    if (length === 0 || length > MAX_METHOD_BYTES || this.#byte() !== SPACE)
      throw refused('the method is not valid');
    this.#at++;
    const method = this.#bytes.toString('latin1', start, this.#at - 1);
    if (isMisspelledMethod(method)) throw refused('the method has small letters');
    return method;
  }

  #readTarget(): string {
    const start = this.#at;
    while (TARGET_BYTES[this.#byte()] !== 0) this.#at++;
    if (this.#at === start || this.#byte() !== SPACE) throw refused('the request target is not valid');
    this.#at++;
    return this.#bytes.toString('latin1', start, this.#at - 1);
  }

  #readVersion(): void {
    const version = this.#bytes.toString('latin1', this.#at, this.#at + 10);
    if (version !== 'HTTP/1.1\r\n' && version !== 'HTTP/1.0\r\n')
      throw refused('the version is not HTTP/1.1 or 1.0');
    this.#isVersion10 = version.charAt(7) === '0';
    this.#at += 10;
  }

  /** One line: `name: value`. A line that begins with a space (obs-fold) has no name and is refused with it. */
  #readField(): void {
    const bytes = this.#bytes;
    const start = this.#at;
    while (TOKEN_BYTES[this.#byte()] !== 0) this.#at++;
    const nameEnd = this.#at;
    if (nameEnd === start || this.#byte() !== COLON) throw refused('a field name is not valid');
    this.#at++;
    while (this.#byte() === SPACE || this.#byte() === TAB) this.#at++;
    const valueStart = this.#at;
    while (VALUE_BYTES[this.#byte()] !== 0) this.#at++;
    let valueEnd = this.#at;
    if (this.#byte() !== CR || bytes[this.#at + 1] !== LF)
      throw refused('a field value holds a control character');
    this.#at += 2;
    while (valueEnd > valueStart && (bytes[valueEnd - 1] === SPACE || bytes[valueEnd - 1] === TAB))
      valueEnd--;
    const name = bytes.toString('latin1', start, nameEnd).toLowerCase();
    this.#take(name, bytes.toString('latin1', valueStart, valueEnd), start);
  }

  #take(name: string, value: string, lineStart: number): void {
    if (isOwnedHeader(name) || name === 'http2-settings') return this.#cut(lineStart);
    if (isMisspelledFraming(name))
      throw refused('a field that frames the request is spelled with an underscore');
    if (name === 'host') this.#takeHost(value);
    else if (name === 'content-length') this.#takeContentLength(value);
    else if (name === 'transfer-encoding') this.#takeTransferEncoding(value);
    else if (name === 'connection' || name === 'proxy-connection') this.#connection += `,${value}`;
    else if (name === 'upgrade') {
      if (value.toLowerCase().includes('h2c')) return this.#cut(lineStart);
      this.#upgrade = true;
    }
    const before = this.#headers[name];
    this.#headers[name] = before === undefined ? value : `${before},${value}`;
  }

  #cut(lineStart: number): void {
    this.#cuts.push(lineStart - this.#start, this.#at - this.#start);
  }

  #takeHost(value: string): void {
    if (this.#host !== null) throw refused('Host stands twice');
    requireAuthority(value);
    this.#host = value;
  }

  #takeContentLength(value: string): void {
    if (this.#contentLength >= 0) throw refused('Content-Length stands twice');
    if (!CONTENT_LENGTH.test(value)) throw refused('Content-Length is not a plain number');
    this.#contentLength = Number(value);
  }

  #takeTransferEncoding(value: string): void {
    if (this.#isChunked) throw refused('Transfer-Encoding stands twice');
    if (this.#isVersion10) throw refused('Transfer-Encoding in HTTP/1.0');
    if (value.toLowerCase() !== 'chunked') throw refused('Transfer-Encoding is not chunked');
    this.#isChunked = true;
  }

  #connectionOptions(): ReadonlySet<string> {
    if (this.#connection === '') return NO_OPTIONS;
    const options = new Set(
      this.#connection
        .toLowerCase()
        .split(',')
        .map((option) => option.trim()),
    );
    for (const option of options)
      if (!CONNECTION_OPTIONS.has(option)) throw refused('Connection names another header');
    return options;
  }

  #requireHost(authority: string | null): string {
    if (this.#host === null) {
      if (!this.#isVersion10) throw refused('Host is missing');
      return authority ?? '';
    }
    const host = this.#host.toLowerCase();
    if (authority !== null && authority !== host) throw refused('Host disagrees with the target');
    return host;
  }

  /** The byte at the position; 0, which no table admits, at the end of the fields. */
  #byte(): number {
    return this.#at < this.#end ? (this.#bytes[this.#at] ?? 0) : 0;
  }
}

const NO_OPTIONS: ReadonlySet<string> = new Set();

function refused(why: string): PicketError {
  return new PicketError('invalid_argument', 'http1_head_refused', `Cannot relay the request head: ${why}`);
}
