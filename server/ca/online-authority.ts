import { createHash } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parsePublicKey } from '../../shared/spiffe/public-key.ts';
import { identityKindOf } from '../../shared/spiffe/reserved-path.ts';
import { trustDomainOf } from '../../shared/spiffe/spiffe-id.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import { parseX509Certificate, type ParsedCertificate } from '../../shared/wire/x509-certificate.ts';
import type { SigningKey } from '../key-manager/key-manager.ts';
import { CLOCK_SKEW_MS, type CertificateAuthority, type IssuedCertificate, type LeafRequest } from './ca.ts';
import { encodeLeaf, sealLeaf } from './leaf.ts';
import { keyIdentifierOf } from '../../shared/wire/x509-writer.ts';

export interface OnlineAuthorityOptions {
  readonly bundle: TrustBundle;
  readonly intermediate: { readonly certificate: ParsedCertificate; readonly key: SigningKey };
  readonly policySigner: { readonly certificate: ParsedCertificate; readonly key: SigningKey };
  readonly clock: Clock;
  /** Cryptographically random bytes. */
  readonly random: (length: number) => Uint8Array;
}

const SERIAL_BYTES = 16;

/** Issues leaves with the intermediate, by a template of our own (`leaf.ts`). `openAuthority` has verified that keys and certificates belong together. */
export class OnlineAuthority implements CertificateAuthority {
  readonly bundle: WatchedValue<TrustBundle>;
  readonly #options: OnlineAuthorityOptions;
  readonly #issuer: { readonly subject: Uint8Array; readonly keyIdentifier: Uint8Array };

  constructor(options: OnlineAuthorityOptions) {
    const { certificate } = options.intermediate;
    this.#options = options;
    this.bundle = new WatchedValue(options.bundle);
    this.#issuer = {
      subject: certificate.subject,
      keyIdentifier:
        certificate.extensions.subjectKeyIdentifier ?? keyIdentifierOf(certificate.publicKeySpki),
    };
  }

  /** When the intermediate ends, in milliseconds since 1970. */
  get intermediateNotAfterMs(): number {
    return this.#options.intermediate.certificate.notAfterMs;
  }

  /**
   * SHA-256 of the root's public key in hexadecimal, by which hosts recognise the root: of the one that the server's own certificate stands on. While roots change there is another one in the bundle, and a host that
   * pins that would not believe the server.
   */
  get rootKeySha256(): string {
    const { issuer } = this.#options.intermediate.certificate;
    const root = this.bundle.current.x509Authorities
      .map(parseX509Certificate)
      .find(({ subject }) => Buffer.from(subject).equals(issuer));
    if (root === undefined)
      throw new PicketError('internal', 'root_missing', 'The root of the intermediate is not in the bundle');
    return createHash('sha256').update(root.publicKeySpki).digest('hex');
  }

  get policyCertificate(): Uint8Array {
    return this.#options.policySigner.certificate.der;
  }

  async issue(request: LeafRequest): Promise<IssuedCertificate> {
    const { clock, random, intermediate } = this.#options;
    this.#requireIssuable(request);
    parsePublicKey(request.publicKeySpki);
    const nowMs = Math.floor(clock.nowMs() / 1000) * 1000;
    requireCurrent('issue certificates', intermediate.certificate, nowMs, 'intermediate_expired');
    const serial = toSerial(random(SERIAL_BYTES));
    const content = {
      spiffeId: request.spiffeId,
      dnsNames: request.dnsNames,
      ipAddresses: request.ipAddresses ?? [],
      publicKeySpki: request.publicKeySpki,
      serial,
      notBeforeMs: nowMs - CLOCK_SKEW_MS,
      notAfterMs: Math.min(nowMs + request.ttlSeconds * 1000, this.intermediateNotAfterMs),
      issuer: this.#issuer,
    };
    const toBeSigned = encodeLeaf(content);
    const leaf = sealLeaf(toBeSigned, await intermediate.key.sign(toBeSigned));
    return {
      spiffeId: request.spiffeId,
      chain: [leaf, intermediate.certificate.der],
      serial: Buffer.from(serial).toString('hex'),
      notBeforeMs: content.notBeforeMs,
      notAfterMs: content.notAfterMs,
    };
  }

  /** Whoever asks: an authority's own names never stand in a leaf, nor does another trust domain's. */
  #requireIssuable({ spiffeId, ttlSeconds }: LeafRequest): void {
    const isForeign = trustDomainOf(spiffeId) !== this.bundle.current.trustDomain;
    if (isForeign || identityKindOf(spiffeId) === 'authority')
      throw new PicketError(
        'invalid_argument',
        'spiffe_id_refused',
        `Cannot issue a certificate for ${spiffeId}: it is ${isForeign ? 'of another trust domain' : 'nobody’s at an end of a connection'}`,
      );
    if (!(ttlSeconds >= 1 && Number.isFinite(ttlSeconds)))
      throw new RangeError(`A certificate cannot live for ${ttlSeconds} seconds`);
  }

  async signPolicy(
    statement: Uint8Array,
  ): Promise<{ readonly signature: Uint8Array; readonly chain: readonly Uint8Array[] }> {
    const { key, certificate } = this.#options.policySigner;
    requireCurrent('sign policies', certificate, this.#options.clock.nowMs(), 'policy_signer_expired');
    return { signature: await key.sign(statement), chain: [certificate.der] };
  }
}

/** What has ended signs nothing. Written so that a time that is no number is refused too. */
function requireCurrent(
  what: string,
  certificate: ParsedCertificate,
  nowMs: number,
  reason: 'intermediate_expired' | 'policy_signer_expired',
): void {
  if (nowMs < certificate.notAfterMs) return;
  const ended = new Date(certificate.notAfterMs).toISOString();
  throw new PicketError(
    'failed_precondition',
    reason,
    `Cannot ${what}: the certificate for it ended at ${ended} (picket ca renew makes a new one)`,
  );
}

/** Positive and always of the same length: the first bits are 01. */
function toSerial(bytes: Uint8Array): Uint8Array {
  const serial = bytes.slice();
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}
