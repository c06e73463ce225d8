import { decodeIpAddress, encodeIpAddress } from '../runtime/ip-address.ts';
import type { FieldList } from './hpack-decoder.ts';
import { isToken, MalformedHead, requireField, requireValue } from './http2-field-rules.ts';

/** An address and port as a CONNECT names them; the address in the one spelling of `decodeIpAddress`. */
export interface HboneAddress {
  readonly address: string;
  readonly port: number;
}

/** A request for a connection by HBONE: CONNECT without a scheme, a path or a protocol (RFC 9113 8.5). */
export interface HboneConnect {
  readonly destination: HboneAddress;
  /** Of the calling application, by the `forwarded` field (RFC 7239). The peer's word, good for the record only. */
  readonly claimedSource: HboneAddress | undefined;
  /** Of the trace that the peer says it belongs to, as it stands there (W3C Trace Context); undefined where there is none, or several. */
  readonly traceparent: string | undefined;
}

/** What a header block that opens a stream is. */
export type ReadHboneConnect =
  | { readonly kind: 'connect'; readonly connect: HboneConnect }
  /** No request at all: the stream ends with PROTOCOL_ERROR (RFC 9113 8.1.1). */
  | { readonly kind: 'malformed'; readonly why: string }
  /** A request that is not served: it is answered with `status`. */
  | { readonly kind: 'refused'; readonly status: number; readonly why: string };

/** What a peer answered to a CONNECT. */
export interface HboneAnswer {
  readonly status: number;
  /** By name in lower case; of a repeated field the first. Has no prototype. */
  readonly headers: Readonly<Record<string, string>>;
}

const COLON = 58;
const REQUEST_PSEUDO = [':method', ':authority', ':scheme', ':path', ':protocol'];
const AUTHORITY = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([^\s:[\]/?#@]{1,255})):([1-9][0-9]{0,4})$/;
const FORWARDED_FOR = /(?:^|[;,])\s*for=(?:"([^"\\]{1,64})"|([^\s;,"\\]{1,64}))/i;
const MAX_PORT = 65_535;

/** Reads the head of a request as ztunnel and other HBONE peers send it. Names instead of addresses are refused with 503: nothing here resolves them. */
export function readHboneConnect(fields: FieldList): ReadHboneConnect {
  try {
    const { pseudo, headers } = readFields(fields, REQUEST_PSEUDO);
    if (fields.isTooLong) return refused(431, 'its header fields are too long or too many');
    const method = requirePseudo(pseudo, ':method');
    if (!isToken(method)) throw new MalformedHead('the method is not valid');
    if (method !== 'CONNECT') return refused(400, 'HBONE knows no method but CONNECT');
    requireNothingElse(pseudo);
    const authority = requirePseudo(pseudo, ':authority');
    if ((headers['host'] ?? authority) !== authority) throw new MalformedHead('host is unlike :authority');
    if (headers['content-length'] !== undefined) throw new MalformedHead('CONNECT has a content-length');
    return readAuthority(authority, { headers, traceparent: findOnly(fields, 'traceparent') });
  } catch (error) {
    if (error instanceof MalformedHead) return { kind: 'malformed', why: error.message };
    throw error;
  }
}

/** Reads the head of an answer; the reason as text where it is none. */
export function readHboneAnswer(fields: FieldList): HboneAnswer | string {
  try {
    const { pseudo, headers } = readFields(fields, [':status']);
    if (fields.isTooLong) throw new MalformedHead('its header fields are too long or too many');
    const status = requirePseudo(pseudo, ':status');
    if (!/^[1-5][0-9]{2}$/.test(status)) throw new MalformedHead(':status is no status');
    return { status: Number(status), headers };
  } catch (error) {
    if (error instanceof MalformedHead) return error.message;
    throw error;
  }
}

/** `address:port` as an authority, with brackets around IPv6. */
export function formatHboneAuthority({ address, port }: HboneAddress): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

interface Fields {
  readonly pseudo: ReadonlyMap<string, string>;
  readonly headers: Readonly<Record<string, string>>;
}

/** Pseudo-header fields stand before all others, each once, and none that is not of `known` (RFC 9113 8.3). */
function readFields({ names, values, length }: FieldList, known: readonly string[]): Fields {
  const pseudo = new Map<string, string>();
  const headers = Object.create(null) as Record<string, string>;
  let isPast = false;
  for (let i = 0; i < length; i++) {
    const [name = '', value = ''] = [names[i], values[i]];
    if (name.charCodeAt(0) !== COLON) {
      isPast = true;
      requireField(name, value);
      headers[name] ??= value;
      continue;
    }
    if (!known.includes(name)) throw new MalformedHead('a pseudo-header field is unknown');
    if (pseudo.has(name)) throw new MalformedHead(`${name} stands twice`);
    if (isPast) throw new MalformedHead('a pseudo-header field stands behind another field');
    requireValue(value);
    pseudo.set(name, value);
  }
  return { pseudo, headers };
}

function requirePseudo(pseudo: ReadonlyMap<string, string>, name: string): string {
  const value = pseudo.get(name);
  if (value === undefined || value === '') throw new MalformedHead(`${name} is missing`);
  return value;
}

function requireNothingElse(pseudo: ReadonlyMap<string, string>): void {
  for (const name of [':scheme', ':path', ':protocol'])
    if (pseudo.has(name)) throw new MalformedHead(`CONNECT has ${name}`);
}

function readAuthority(
  authority: string,
  { headers, traceparent }: Pick<Fields, 'headers'> & Pick<HboneConnect, 'traceparent'>,
): ReadHboneConnect {
  const [, v6, host, port = ''] = AUTHORITY.exec(authority) ?? [];
  const destination = toAddress(v6 ?? host, Number(port));
  if (destination !== undefined) {
    const claimedSource = readForwarded(headers['forwarded']);
    return { kind: 'connect', connect: { destination, claimedSource, traceparent } };
  }
  if (host === undefined || Number(port) > MAX_PORT || /^[0-9.]+$/.test(host))
    return refused(400, ':authority is no address and port');
  return refused(503, ':authority is a name, and names lead nowhere here');
}

/** A field that stands there once. */
function findOnly({ names, values }: FieldList, name: string): string | undefined {
  const at = names.indexOf(name);
  return at < 0 || at !== names.lastIndexOf(name) ? undefined : values[at];
}

function readForwarded(forwarded: string | undefined): HboneAddress | undefined {
  const [, quoted, token] = FORWARDED_FOR.exec(forwarded ?? '') ?? [];
  const [, v6, v4, port = ''] = AUTHORITY.exec(quoted ?? token ?? '') ?? [];
  return toAddress(v6 ?? v4, Number(port));
}

function toAddress(text: string | undefined, port: number): HboneAddress | undefined {
  if (text === undefined || port < 1 || port > MAX_PORT) return undefined;
  try {
    return { address: decodeIpAddress(encodeIpAddress(text)), port };
  } catch {
    return undefined;
  }
}

function refused(status: number, why: string): ReadHboneConnect {
  return { kind: 'refused', status, why };
}
