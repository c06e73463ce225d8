import { PicketError } from '../errors/errors.ts';
import { ByteReader } from './byte-reader.ts';

/** What the first bytes of a TLS connection say. `incomplete`: more bytes are needed. `malformed`: more bytes cannot help. */
export type ClientHelloResult =
  | { readonly kind: 'incomplete' }
  | {
      readonly kind: 'hello';
      /** Name of the server_name extension in lower case, null without one. */
      readonly serverName: string | null;
      /** Protocol names of the ALPN extension, as latin-1 text. */
      readonly alpn: readonly string[];
    }
  | { readonly kind: 'malformed'; readonly why: string };

/** The longest ClientHello that is read, records' headers included. Ours has some 250 bytes, one with a post-quantum share 1,500. */
export const MAX_CLIENT_HELLO_BYTES = 16 * 1024;

/** In which a hello may come; the smallest that TLS stacks make have 512 bytes (RFC 6066 4). */
const MAX_RECORDS = 256;

const HANDSHAKE = 22;
const RECORD_HEADER_BYTES = 5;
const HANDSHAKE_HEADER_BYTES = 4;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const ALPN = 16;
const MAX_FRAGMENT_BYTES = 16_384;
const MAX_SERVER_NAME_BYTES = 255;
const INCOMPLETE = { kind: 'incomplete' } as const;

/**
 * Reads a ClientHello (RFC 8446 4.1.2) from the bytes that a connection began with, all of them at each call. It may be spread over several TLS
 * records and be followed by others. Nothing that it says is authenticated: it only chooses a certificate.
 */
export function parseClientHello(bytes: Uint8Array): ClientHelloResult {
  try {
    const message = joinRecords(bytes);
    return message === undefined ? tooShort(bytes) : parseMessage(message);
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    return { kind: 'malformed', why: error.message };
  }
}

function tooShort(bytes: Uint8Array): ClientHelloResult {
  if (bytes.length < MAX_CLIENT_HELLO_BYTES) return INCOMPLETE;
  return { kind: 'malformed', why: `it is longer than ${MAX_CLIENT_HELLO_BYTES} bytes` };
}

/**
 * The handshake message without its 4-byte header, or undefined while it is not whole. Nothing is put together before: whoever sends it may choose records of one byte, and as many pieces of them.
 * TLSPlaintext (RFC 8446 5.1): type u8 | version u16 | length u16 | fragment. Handshake: type u8 | length u24 | body.
 */
function joinRecords(bytes: Uint8Array): Uint8Array | undefined {
  let collected = 0;
  /** The bytes of the handshake's header so far, as a number. */
  let header = 0;
  let at = 0;
  for (let records = 1; at < bytes.length; records++) {
    if (records > MAX_RECORDS) throw malformed(`it has more than ${MAX_RECORDS} records`);
    requireRecordStart(bytes, at);
    const start = at + RECORD_HEADER_BYTES;
    if (start > bytes.length) return undefined;
    at = endOfRecord(bytes, start);
    const end = Math.min(at, bytes.length);
    for (let i = start; i < end && collected + i - start < HANDSHAKE_HEADER_BYTES; i++)
      header = header * 256 + (bytes[i] ?? 0);
    collected += end - start;
    if (collected < HANDSHAKE_HEADER_BYTES) continue;
    const length = messageLength(header);
    if (collected >= HANDSHAKE_HEADER_BYTES + length) return copyMessage(bytes, length);
  }
  return undefined;
}

/** Where the record ends whose fragment begins at `start`, be it there or not. */
function endOfRecord(bytes: Uint8Array, start: number): number {
  const length = ((bytes[start - 2] ?? 0) << 8) | (bytes[start - 1] ?? 0);
  if (length === 0 || length > MAX_FRAGMENT_BYTES) throw malformed(`a record has ${length} bytes`);
  return start + length;
}

/** Of a handshake's header, as a number. */
function messageLength(header: number): number {
  const type = Math.floor(header / 2 ** 24);
  if (type !== CLIENT_HELLO) throw malformed(`handshake type ${type} is not ClientHello`);
  const length = header % 2 ** 24;
  if (length > MAX_CLIENT_HELLO_BYTES) throw malformed(`it announces ${length} bytes`);
  return length;
}

/** Out of records in which it is whole. */
function copyMessage(bytes: Uint8Array, length: number): Uint8Array {
  const whole = new Uint8Array(HANDSHAKE_HEADER_BYTES + length);
  let collected = 0;
  for (let at = 0; collected < whole.length;) {
    const start = at + RECORD_HEADER_BYTES;
    at = endOfRecord(bytes, start);
    const fragment = bytes.subarray(start, Math.min(at, start + whole.length - collected));
    whole.set(fragment, collected);
    collected += fragment.length;
  }
  return whole.subarray(HANDSHAKE_HEADER_BYTES);
}

/** Refuses what is no TLS handshake as soon as its first bytes show it. */
function requireRecordStart(bytes: Uint8Array, at: number): void {
  if (bytes[at] !== HANDSHAKE) throw malformed(`record type ${bytes[at]} is not a handshake`);
  const major = bytes[at + 1];
  if (major !== undefined && major !== 3) throw malformed(`record version ${major} is not TLS`);
}

function parseMessage(message: Uint8Array): ClientHelloResult {
  const reader = new ByteReader(message);
  reader.bytes(2 + 32);
  reader.bytes(reader.u8());
  reader.bytes(reader.u16());
  reader.bytes(reader.u8());
  let serverName: string | null = null;
  let alpn: readonly string[] = [];
  const seen = new Set<number>();
  const extensions = new ByteReader(reader.remaining === 0 ? new Uint8Array() : reader.bytes(reader.u16()));
  reader.requireEnd();
  while (extensions.remaining > 0) {
    const type = extensions.u16();
    const body = new ByteReader(extensions.bytes(extensions.u16()));
    if (seen.has(type)) throw malformed(`extension ${type} stands twice`);
    seen.add(type);
    if (type === SERVER_NAME) serverName = parseServerName(body);
    else if (type === ALPN) alpn = parseAlpn(body);
  }
  return { kind: 'hello', serverName, alpn };
}

/** ServerNameList (RFC 6066 3): length u16 | entries of type u8, length u16, name. Exactly one host name may stand in it. */
function parseServerName(body: ByteReader): string {
  const list = new ByteReader(body.bytes(body.u16()));
  body.requireEnd();
  if (list.u8() !== HOST_NAME) throw malformed('the server name is not a host name');
  const name = list.bytes(list.u16());
  list.requireEnd();
  if (name.length === 0 || name.length > MAX_SERVER_NAME_BYTES)
    throw malformed(`the server name has ${name.length} bytes`);
  if (name.some((byte) => byte <= 0x20 || byte >= 0x7f)) throw malformed('the server name is not ASCII');
  return Buffer.from(name).toString('latin1').toLowerCase();
}

/** ProtocolNameList (RFC 7301 3.1): length u16 | names of length u8 each. */
function parseAlpn(body: ByteReader): readonly string[] {
  const list = new ByteReader(body.bytes(body.u16()));
  body.requireEnd();
  const names: string[] = [];
  while (list.remaining > 0) {
    const name = list.bytes(list.u8());
    if (name.length === 0) throw malformed('a protocol name is empty');
    names.push(Buffer.from(name).toString('latin1'));
  }
  return names;
}

function malformed(why: string): PicketError {
  return new PicketError('invalid_argument', 'client_hello_invalid', `Cannot read ClientHello: ${why}`);
}
