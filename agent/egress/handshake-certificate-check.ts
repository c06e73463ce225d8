import { toPicketError } from '../../shared/errors/errors.ts';
import type { CertificateTerms } from '../../shared/policy/egress-terms.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { CertificateCheck, OutsideServer } from './certificate-check.ts';
import { findProofFault, type ProvenCertificate } from './certificate-proof.ts';
import { HandshakePlaces, REFUSED_MS } from './handshake-places.ts';
import { shakeHands } from './outside-handshake.ts';

export interface HandshakeCertificateCheckOptions {
  /** Certificates (PEM) of the authorities that policies may name. */
  readonly authorities: Readonly<Record<string, string>>;
  /** As `dialForTraffic` takes it. */
  readonly mark: number;
  readonly clock: Clock;
}

/** What a server proved, or why it proved nothing. */
type Answer =
  | { readonly kind: 'proven'; readonly certificate: ProvenCertificate }
  | { readonly kind: 'silent'; readonly why: string };

interface Known {
  readonly answer: Answer;
  /** By the monotonic clock. */
  readonly atMs: number;
}

/** How long what a server proved counts for the connections that follow. */
const PROVEN_MS = 30_000;
const MAX_KNOWN = 4096;

/**
 * Asks the server itself, by a TLS handshake of our own with the same address and name: in TLS 1.3 its certificate is encrypted, so that who passes a program's TLS through
 * does not see it. What it proves is that whoever answers there, and within the last half minute, holds the key: not that the same one answers the program.
 */
export class HandshakeCertificateCheck implements CertificateCheck {
  readonly #options: HandshakeCertificateCheckOptions;
  /** In the order of their handshakes. */
  readonly #known = new Map<string, Known>();
  readonly #running = new Map<string, Promise<Answer>>();
  readonly #places = new HandshakePlaces();

  constructor(options: HandshakeCertificateCheckOptions) {
    this.#options = options;
  }

  async findFault(
    server: OutsideServer,
    terms: CertificateTerms,
    asker: string,
  ): Promise<string | undefined> {
    const { authority } = terms;
    const authorityPem = authority === undefined ? undefined : this.#findAuthority(authority);
    if (authority !== undefined && authorityPem === undefined)
      return `This host knows no authority "${authority}" (egress.authorities in its configuration)`;
    const key = JSON.stringify([server.address, server.port, server.serverName, authority ?? null]);
    const known = this.#known.get(key);
    const ageMs = known === undefined ? Infinity : this.#options.clock.monotonicMs() - known.atMs;
    const knownFault = known === undefined ? undefined : faultOf(known.answer, terms);
    if (known !== undefined && ageMs < (knownFault === undefined ? PROVEN_MS : REFUSED_MS)) return knownFault;
    const answer = await this.#ask(key, { server, authorityPem, asker });
    return answer === undefined
      ? 'Too many servers are being asked for their certificate'
      : faultOf(answer, terms);
  }

  #findAuthority(name: string): string | undefined {
    const { authorities } = this.#options;
    return Object.hasOwn(authorities, name) ? authorities[name] : undefined;
  }

  /** Undefined where too much is being asked. */
  async #ask(
    key: string,
    question: {
      readonly server: OutsideServer;
      readonly authorityPem: string | undefined;
      readonly asker: string;
    },
  ): Promise<Answer | undefined> {
    const { asker } = question;
    const running = this.#running.get(key);
    if (running !== undefined) return await running;
    const leave = this.#places.tryEnter(asker);
    if (leave === undefined) return undefined;
    const handshake = this.#handshake(key, question).finally(() => {
      this.#running.delete(key);
      leave();
    });
    this.#running.set(key, handshake);
    return await handshake;
  }

  async #handshake(
    key: string,
    { server, authorityPem }: { readonly server: OutsideServer; readonly authorityPem: string | undefined },
  ): Promise<Answer> {
    const { mark, clock } = this.#options;
    let answer: Answer;
    try {
      answer = { kind: 'proven', certificate: await shakeHands({ ...server, authorityPem, mark, clock }) };
    } catch (error) {
      answer = { kind: 'silent', why: toPicketError(error).message };
    }
    this.#keep(key, { answer, atMs: clock.monotonicMs() });
    return answer;
  }

  #keep(key: string, known: Known): void {
    this.#known.delete(key);
    this.#known.set(key, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
  }
}

function faultOf(answer: Answer, terms: CertificateTerms): string | undefined {
  if (answer.kind === 'silent') return `The server shows no certificate: ${answer.why}`;
  return findProofFault(answer.certificate, terms);
}
