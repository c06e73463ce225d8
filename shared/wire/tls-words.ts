import { parseClientHello } from './client-hello.ts';

const TLS_HANDSHAKE = 22;
/** Offers of a hello that are kept. */
const MAX_ALPN = 32;

/** What a client of TLS says before it encrypts. Nothing of it is proved. */
export interface TlsWords {
  /** In lower case; empty without one. */
  readonly serverName: string;
  readonly alpn: readonly string[];
}

/**
 * What the first bytes of a connection say, if they are a whole ClientHello; `incomplete` while they may become one; undefined for anything else. At most the bytes of
 * the longest hello are waited for.
 */
export function readTlsWords(bytes: Uint8Array): TlsWords | 'incomplete' | undefined {
  if (bytes[0] !== TLS_HANDSHAKE) return undefined;
  const hello = parseClientHello(bytes);
  if (hello.kind === 'incomplete') return 'incomplete';
  if (hello.kind === 'malformed') return undefined;
  return { serverName: hello.serverName ?? '', alpn: hello.alpn.slice(0, MAX_ALPN) };
}
