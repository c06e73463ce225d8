import { PicketError } from '../errors/errors.ts';
import type { FieldList } from './hpack-decoder.ts';
import { hasTwins, isMisspelledMethod, isOwnedHeader, TARGET_BYTES } from './http1-syntax.ts';
import { parseRequestTarget, requireAuthority } from './http1-target.ts';
import { isToken, MalformedHead, requireField, requireValue } from './http2-field-rules.ts';

/** The head of a request, read so that an application cannot read it otherwise. */
export interface Http2RequestHead {
  readonly method: string;
  /** Path and query as the application gets them; empty only for none. */
  readonly path: string;
  /** In lower case. */
  readonly host: string;
  readonly scheme: string;
  /** By name, values of repeated fields joined with a comma (of cookies with a semicolon, RFC 9113 8.2.3), without owned ones; with `host`, and `:protocol` of an extended CONNECT. Has no prototype. */
  readonly headers: Readonly<Record<string, string>>;
  readonly isGrpc: boolean;
  /** Which fields of the list are not passed on. */
  readonly owned: readonly number[];
}

/** What a header block is. */
export type ReadRequestHead =
  | { readonly kind: 'request'; readonly head: Http2RequestHead }
  /** No request at all: the stream ends with PROTOCOL_ERROR (RFC 9113 8.1.1). */
  | { readonly kind: 'malformed'; readonly why: string }
  /** A request that could be read in two ways, or is not relayed: it is answered with `status`. */
  | { readonly kind: 'refused'; readonly status: number; readonly why: string; readonly isGrpc: boolean };

const MAX_METHOD_BYTES = 32;
const PSEUDO = [':method', ':scheme', ':path', ':authority', ':protocol'];
const CONTENT_LENGTH = /^[0-9]{1,15}$/;
const COLON = 58;

/** Reads the fields of a request (RFC 9113 8.3.1; RFC 8441 4 for CONNECT with `:protocol`) by the rules of `parseRequestHead`. */
export function readRequestHead(fields: FieldList): ReadRequestHead {
  try {
    const reader = new HeadReader(fields);
    return reader.read();
  } catch (error) {
    if (error instanceof MalformedHead) return { kind: 'malformed', why: error.message };
    throw error;
  }
}

/** Which of a request's trailers are not passed on; or why they are none: pseudo-header fields, names and values that may not be (RFC 9113 8.1). */
export function readTrailers(
  fields: FieldList,
): { readonly owned: readonly number[] } | { readonly malformed: string } {
  if (fields.isTooLong) return { malformed: 'its trailers are too long' };
  const owned: number[] = [];
  try {
    for (let i = 0; i < fields.length; i++) {
      const name = fields.names[i] ?? '';
      requireField(name, fields.values[i] ?? '');
      if (isOwnedHeader(name)) owned.push(i);
    }
  } catch (error) {
    if (error instanceof MalformedHead) return { malformed: error.message };
    throw error;
  }
  return { owned };
}

class HeadReader {
  readonly #fields: FieldList;
  readonly #pseudo = new Map<string, string>();
  readonly #headers = Object.create(null) as Record<string, string>;
  readonly #owned: number[] = [];

  constructor(fields: FieldList) {
    this.#fields = fields;
  }

  read(): ReadRequestHead {
    const { names, values, length, isTooLong } = this.#fields;
    for (let i = 0; i < length; i++) this.#take(names[i] ?? '', values[i] ?? '', i);
    if (isTooLong) return this.#refused(431, 'its header fields are too long or too many');
    const method = this.#requireMethod();
    if (isMisspelledMethod(method)) return this.#refused(400, 'its method has small letters');
    const protocol = this.#pseudo.get(':protocol');
    if (method === 'CONNECT' && protocol === undefined) return this.#readConnect();
    if (protocol !== undefined) this.#takeProtocol(method, protocol);
    const scheme = this.#require(':scheme');
    const path = this.#require(':path');
    if (!path.startsWith('/') && path !== '*') throw new MalformedHead(':path is no path');
    try {
      const host = this.#requireHost();
      if (scheme !== 'http' && scheme !== 'https')
        return this.#refused(400, 'the scheme is neither http nor https');
      if (hasTwins(this.#headers)) return this.#refused(400, 'two header fields differ in their marks alone');
      requireTargetBytes(path);
      // What is asked for in an extended CONNECT is an ordinary path.
      parseRequestTarget(method === 'CONNECT' ? 'GET' : method, path);
      const { headers, isGrpc } = this;
      return { kind: 'request', head: { method, path, host, scheme, headers, isGrpc, owned: this.#owned } };
    } catch (error) {
      if (error instanceof PicketError) return this.#refused(400, error.message);
      throw error;
    }
  }

  get headers(): Readonly<Record<string, string>> {
    return this.#headers;
  }

  get isGrpc(): boolean {
    return /^application\/grpc(?:$|[+;])/i.test(this.#headers['content-type'] ?? '');
  }

  #take(name: string, value: string, index: number): void {
    if (name.charCodeAt(0) === COLON) return this.#takePseudo(name, value);
    requireField(name, value);
    if (isOwnedHeader(name)) {
      this.#owned.push(index);
      return;
    }
    if (name === 'te' && value.toLowerCase() !== 'trailers') throw new MalformedHead('te is not trailers');
    const before = this.#headers[name];
    if (name === 'content-length' && (before !== undefined || !CONTENT_LENGTH.test(value)))
      throw new MalformedHead('content-length is no number, or stands twice');
    if (name === 'host' && before !== undefined) throw new MalformedHead('host stands twice');
    if (before === undefined) this.#headers[name] = value;
    else this.#headers[name] = before + (name === 'cookie' ? '; ' : ',') + value;
  }

  /** They stand before all other fields, each once (RFC 9113 8.3). */
  #takePseudo(name: string, value: string): void {
    if (!PSEUDO.includes(name)) throw new MalformedHead('a pseudo-header field is unknown');
    if (this.#pseudo.has(name)) throw new MalformedHead(`${name} stands twice`);
    if (this.#owned.length > 0 || !isEmpty(this.#headers))
      throw new MalformedHead('a pseudo-header field stands behind another field');
    requireValue(value);
    this.#pseudo.set(name, value);
  }

  #require(name: string): string {
    const value = this.#pseudo.get(name);
    if (value === undefined) throw new MalformedHead(`${name} is missing`);
    return value;
  }

  #requireMethod(): string {
    const method = this.#require(':method');
    if (method.length > MAX_METHOD_BYTES || !isToken(method))
      throw new MalformedHead('the method is not valid');
    return method;
  }

  /** What follows it would pass undecided, as on HTTP/1.1. */
  #readConnect(): ReadRequestHead {
    if (this.#pseudo.has(':scheme') || this.#pseudo.has(':path'))
      throw new MalformedHead('CONNECT has a path');
    this.#require(':authority');
    return this.#refused(400, 'CONNECT is not relayed');
  }

  #takeProtocol(method: string, protocol: string): void {
    if (method !== 'CONNECT') throw new MalformedHead(':protocol stands without CONNECT');
    if (!isToken(protocol)) throw new MalformedHead(':protocol is not valid');
    this.#headers[':protocol'] = protocol;
  }

  /** `host` says the same as `:authority`, if both are there (RFC 9113 8.3.1). */
  #requireHost(): string {
    const authority = this.#pseudo.get(':authority');
    const host = authority ?? this.#headers['host'];
    if (host === undefined) throw new MalformedHead('neither :authority nor host is there');
    const lower = host.toLowerCase();
    if ((this.#headers['host'] ?? host).toLowerCase() !== lower)
      throw new MalformedHead('host is unlike :authority');
    requireAuthority(host);
    this.#headers['host'] ??= host;
    return lower;
  }

  #refused(status: number, why: string): ReadRequestHead {
    return { kind: 'refused', status, why, isGrpc: this.isGrpc };
  }
}

function requireTargetBytes(path: string): void {
  for (let i = 0; i < path.length; i++)
    if (TARGET_BYTES[path.charCodeAt(i)] === 0)
      throw new MalformedHead(':path holds a character that may not be');
}

function isEmpty(record: Readonly<Record<string, string>>): boolean {
  for (const _ in record) return false;
  return true;
}
