import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { WatchedValue } from '../../shared/runtime/watched-value.ts';
import { parsePublicKey } from '../../shared/spiffe/public-key.ts';
import type { TrustBundle } from '../../shared/spiffe/trust-bundle.ts';
import type { ParsedCertificate } from '../../shared/wire/x509-certificate.ts';
import type { SigningKey } from '../key-manager/key-manager.ts';
import { CLOCK_SKEW_MS, type CertificateAuthority, type IssuedCertificate, type LeafRequest } from './ca.ts';
import { encodeLeaf, keyIdentifierOf, sealCertificate } from './leaf.ts';

export interface OnlineAuthorityOptions {
  readonly bundle: TrustBundle;
  readonly intermediate: { readonly certificate: ParsedCertificate; readonly key: SigningKey };
  readonly policySigner: { readonly certificate: ParsedCertificate; readonly key: SigningKey };
  readonly clock: Clock;
  /** Cryptographically random bytes. */
  readonly random: (length: number) => Uint8Array;
}

const SERIAL_BYTES = 16;

/** Issues leaves with the intermediate, by a template of our own (design: decision 8). `openAuthority` has verified that keys and certificates belong together. */
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

  async issue(request: LeafRequest): Promise<IssuedCertificate> {
    const { clock, random, intermediate } = this.#options;
    parsePublicKey(request.publicKeySpki);
    const nowMs = Math.floor(clock.nowMs() / 1000) * 1000;
    if (nowMs >= this.intermediateNotAfterMs)
      throw new PicketError(
        'failed_precondition',
        'intermediate_expired',
        'Cannot issue certificates: the intermediate has ended (picket ca renew makes a new one)',
      );
    const serial = toSerial(random(SERIAL_BYTES));
    const content = {
      spiffeId: request.spiffeId,
      dnsNames: request.dnsNames,
      publicKeySpki: request.publicKeySpki,
      serial,
      notBeforeMs: nowMs - CLOCK_SKEW_MS,
      notAfterMs: Math.min(nowMs + request.ttlSeconds * 1000, this.intermediateNotAfterMs),
      issuer: this.#issuer,
    };
    const toBeSigned = encodeLeaf(content);
    const leaf = sealCertificate(toBeSigned, await intermediate.key.sign(toBeSigned));
    return {
      spiffeId: request.spiffeId,
      chain: [leaf, intermediate.certificate.der],
      serial: Buffer.from(serial).toString('hex'),
      notBeforeMs: content.notBeforeMs,
      notAfterMs: content.notAfterMs,
    };
  }

  async signPolicy(
    statement: Uint8Array,
  ): Promise<{ readonly signature: Uint8Array; readonly chain: readonly Uint8Array[] }> {
    const { key, certificate } = this.#options.policySigner;
    return { signature: await key.sign(statement), chain: [certificate.der] };
  }
}

/** Positive and always of the same length: the first bits are 01. */
function toSerial(bytes: Uint8Array): Uint8Array {
  const serial = bytes.slice();
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}
