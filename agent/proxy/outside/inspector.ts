import { toPicketError, type PicketError } from '../../../shared/errors/errors.ts';
import type { CertificateTerms } from '../../../shared/policy/egress-terms.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { findProofFault } from '../../egress/certificate-proof.ts';
import { HandshakePlaces } from '../../egress/handshake-places.ts';
import { proofOf } from '../../egress/outside-handshake.ts';
import { OUTSIDE_TLS } from '../../egress/outside-tls.ts';
import type { InspectionAuthority } from '../../inspection/inspection-authority.ts';
import type { SocketAddress } from '../../native/socket-address.ts';
import type { Refusal } from '../judge/judge.ts';
import type { ByteStream } from '../streams/byte-stream.ts';
import { acceptTls, dialTls } from '../streams/tls-stream.ts';
import { MetServerStream } from './met-server.ts';
import { RecentRefusals } from './recent-refusals.ts';

export interface InspectorOptions {
  /** Certifies what stands for outside servers. */
  readonly authority: InspectionAuthority;
  /** Certificates (PEM) of the authorities that vouch for outside servers. */
  readonly serverAuthoritiesPem: string;
  /** Those in whose place the policy may ask for one, by name (PEM). */
  readonly authorities: Readonly<Record<string, string>>;
  /** Of the connections that leave the mesh. */
  readonly mark: number;
  readonly clock: Clock;
}

/** Which HTTP both sides speak within; undefined where they did not say, which is HTTP/1.1. */
export type InspectedProtocol = 'h2' | 'http/1.1' | undefined;

/** An outside server that has proven who it is. */
export interface MetServer {
  /** Paused. */
  readonly stream: MetServerStream;
  readonly protocol: InspectedProtocol;
}

/** Whom a program asks for. */
export interface AskedServer extends SocketAddress {
  /** In lower case. */
  readonly name: string;
  /** Protocols that the program offers. */
  readonly alpn: readonly string[];
  /** What the policy asks for beside a certificate that is good for the name. */
  readonly terms: CertificateTerms | undefined;
  /** On whose account: nobody takes all handshakes. */
  readonly asker: string;
  /** Nobody waits for it any more. */
  readonly signal: AbortSignal;
}

const SPOKEN = ['h2', 'http/1.1'];
const { minVersion, timeoutMs } = OUTSIDE_TLS;

/**
 * Both ends of a TLS connection that is inspected: the server first, which must prove itself as to a program that asks for its name; then the program, to which we stand for the server. One
 * that does not prove itself never gets a certificate of ours.
 */
export class Inspector {
  readonly #options: InspectorOptions;
  readonly #places = new HandshakePlaces();
  readonly #refusals: RecentRefusals;

  constructor(options: InspectorOptions) {
    this.#options = options;
    this.#refusals = new RecentRefusals(options.clock);
  }

  /** Connects to the server on behalf of a program, and says why it may not stand where it does not prove itself. Never rejects. */
  async meet(asked: AskedServer): Promise<MetServer | { readonly refusal: Refusal }> {
    const { name, alpn, terms } = asked;
    const unable = this.#options.authority.findFault(name);
    if (unable !== undefined) return { refusal: unable };
    const offers = SPOKEN.filter((each) => alpn.includes(each));
    if (alpn.length > 0 && offers.length === 0)
      return refused(
        'inspection_refused',
        `The program offers ${alpn.join(', ')} within TLS, which is not HTTP`,
      );
    const authorityPem = this.#findAuthority(terms);
    if (authorityPem === undefined)
      return refused(
        'certificate_refused',
        `This host knows no authority "${terms?.authority}" (egress.authorities in its configuration)`,
      );
    const { address, port } = asked;
    const key = JSON.stringify([address, port, name, offers, terms]);
    const refusal = this.#refusals.find(key);
    if (refusal !== undefined) return { refusal };
    const met = await this.#connectInTurn(asked, { offers, authorityPem });
    if ('refusal' in met && !asked.signal.aborted) this.#refusals.keep(key, met.refusal);
    return met;
  }

  /** Ends the program's TLS, `first` of which has been read, as the server of that name. Rejects with `unavailable`; the connection is the caller's to abort then. */
  async standFor(
    program: ByteStream,
    {
      name,
      protocol,
      first,
      signal,
    }: {
      readonly name: string;
      readonly protocol: InspectedProtocol;
      readonly first: Uint8Array;
      readonly signal: AbortSignal;
    },
  ): Promise<ByteStream> {
    const { authority, clock } = this.#options;
    const { chainPem: cert, keyPem: key } = authority.issue(name);
    const tls = { cert, key, minVersion, ...alpnOption(protocol === undefined ? [] : [protocol]) };
    const { stream } = await acceptTls(program, { first, tls, clock, timeoutMs, signal });
    return stream;
  }

  #findAuthority(terms: CertificateTerms | undefined): string | undefined {
    const { authorities, serverAuthoritiesPem } = this.#options;
    const name = terms?.authority;
    if (name === undefined) return serverAuthoritiesPem;
    return Object.hasOwn(authorities, name) ? authorities[name] : undefined;
  }

  /** Waits for its turn as long as a handshake may take. */
  async #connectInTurn(
    asked: AskedServer,
    how: { readonly offers: readonly string[]; readonly authorityPem: string },
  ): Promise<MetServer | { readonly refusal: Refusal }> {
    const { clock } = this.#options;
    const patience = new AbortController();
    const cancel = clock.schedule(timeoutMs, () => patience.abort());
    const leave = await this.#places.enter(asked.asker, AbortSignal.any([asked.signal, patience.signal]));
    cancel();
    if (leave === undefined)
      return refused('overloaded', 'Too many handshakes with outside servers are under way');
    try {
      return await this.#connect(asked, how);
    } catch (error) {
      return { refusal: refusalOf(toPicketError(error)) };
    } finally {
      leave();
    }
  }

  async #connect(
    { address, port, name, terms, signal }: AskedServer,
    { offers, authorityPem }: { readonly offers: readonly string[]; readonly authorityPem: string },
  ): Promise<MetServer | { readonly refusal: Refusal }> {
    const { mark, clock } = this.#options;
    const tls = {
      ca: authorityPem,
      serverName: name,
      minVersion,
      // Judged below, with the reason.
      rejectUnauthorized: false,
      ...alpnOption(offers),
    } as unknown as Bun.TLSOptions;
    const { stream, socket, error, protocol } = await dialTls({
      address,
      port,
      mark,
      clock,
      timeoutMs,
      tls,
      signal,
    });
    let fault: string | undefined = 'The server’s certificate could not be judged';
    try {
      const proof = proofOf(socket, { error, authorityPem, serverName: name, address });
      fault = proof === undefined ? 'The server shows no certificate' : findProofFault(proof, terms ?? {});
    } finally {
      if (fault !== undefined) stream.abort();
    }
    if (fault !== undefined) return refused('certificate_refused', fault);
    return { stream: new MetServerStream(stream, clock), protocol: protocol as InspectedProtocol };
  }
}

function alpnOption(names: readonly string[]): { readonly ALPNProtocols?: Buffer } {
  if (names.length === 0) return {};
  // Bun wants the wire form: each name after a byte with its length.
  const wire = names.map((name) => `${String.fromCharCode(name.length)}${name}`).join('');
  return { ALPNProtocols: Buffer.from(wire, 'latin1') };
}

function refusalOf({ reason, message }: PicketError): Refusal {
  return reason === 'tls_failed'
    ? {
        reason: 'inspection_refused',
        message: `No TLS with the server comes about, which may want a client's certificate: ${message}`,
      }
    : { reason: 'target_unreachable', message: `Cannot connect to the server: ${message}` };
}

function refused(reason: Refusal['reason'], message: string): { readonly refusal: Refusal } {
  return { refusal: { reason, message } };
}
