import { timingSafeEqual } from 'node:crypto';
import { PicketError } from '../../shared/errors/errors.ts';
import type { ChallengeResponse, TpmPayload } from '../../shared/protocol/attestation.ts';
import { computeQualifyingData } from '../../shared/protocol/tpm-binding.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { parseSelector } from '../../shared/spiffe/selector.ts';
import { makeTpmCredential, type RandomBytes } from '../../shared/wire/tpm2-credential.ts';
import type { TpmHost, TpmHosts } from '../agents/tpm-hosts.ts';
import {
  isEkCertificateTrusted,
  type ManufacturerCertificates,
  parseEkCertificate,
} from './ek-certificate.ts';
import type { AttestationContext, AttestationStep, AttestedNode, NodeAttestor } from './node-attestor.ts';
import {
  type ClaimedAttestationKey,
  type ClaimedEndorsementKey,
  requireAttestationKey,
  requireEndorsementKey,
} from './tpm-keys.ts';
import { requireExpectedPcrs, requireQuote } from './tpm-quote.ts';

export interface TpmAttestorOptions {
  readonly hosts: Pick<TpmHosts, 'find' | 'notePending'>;
  readonly random: RandomBytes;
  readonly clock: Clock;
  /** PCRs (0 to 23) that every host quotes, besides those that have expected values. At least one. */
  readonly pcrs: readonly number[];
  readonly manufacturers: ManufacturerCertificates;
  /** Whether an EK without a certificate of a trusted manufacturer is refused, approved or not. */
  readonly isEkCertificateRequired: boolean;
}

/** What a host claimed in its first message, with what is true of it whoever sent it. */
interface Claim {
  readonly endorsementKey: ClaimedEndorsementKey;
  readonly attestationKey: ClaimedAttestationKey;
  readonly hasTrustedCertificate: boolean;
}

const SECRET_BYTES = 32;
const NONCE_BYTES = 32;

/**
 * Lets in hosts whose TPM an operator approved by the hash of its endorsement key. Credential activation proves that the attestation key is in the same
 * TPM as that endorsement key; the attestation key's quote, bound to this challenge, this certificate request and this server's certificate, proves
 * the state of the PCRs.
 *
 * Refusals are `permission_denied`: `ek_not_approved`, `ek_denied`, `ek_unsuitable`, `ek_certificate_invalid`, `ek_certificate_mismatch`,
 * `ek_certificate_untrusted`, `ak_unsuitable`, `secret_wrong`, `quote_signature_invalid`, `quote_not_bound`, `quote_pcrs_wrong`, `quote_values_wrong`,
 * `pcr_unexpected`; malformed structures are `invalid_argument`.
 *
 * The node's name is the operator's, or the hash of the endorsement key. Selectors: `tpm:ek_hash:<hex>`, `tpm:pcr:<n>:<hex>` for each quoted PCR, and
 * `tpm:has_certificate:true` where a trusted manufacturer certified the key.
 */
export class TpmAttestor implements NodeAttestor<TpmPayload> {
  readonly type = 'tpm';
  readonly #options: TpmAttestorOptions;

  /** Throws `invalid_argument`, reason `tpm_config_invalid`, when the options contradict each other. */
  constructor(options: TpmAttestorOptions) {
    requireConsistent(options);
    this.#options = options;
  }

  async begin(payload: TpmPayload, context: AttestationContext): Promise<AttestationStep> {
    const claim = this.#readClaim(payload);
    const { endorsementKey, attestationKey } = claim;
    const host = await this.#requireApproved(claim);
    const { random } = this.#options;
    const [secret, nonce] = [random(SECRET_BYTES), random(NONCE_BYTES)];
    const pcrs = pcrsOf(this.#options.pcrs, host);
    const qualifyingData = computeQualifyingData({ ...context, nonce });
    const credential = makeTpmCredential(endorsementKey.area, {
      objectName: attestationKey.name,
      secret,
      random,
    });
    return {
      kind: 'challenge',
      subject: endorsementKey.hash,
      challenge: {
        type: 'tpm',
        credentialBlob: base64(credential.credentialBlob),
        encryptedSecret: base64(credential.encryptedSecret),
        nonce: base64(nonce),
        pcrs,
      },
      respond: async (response) => {
        requireSecret(response, secret);
        const quote = { quote: bytes(response.quote), signature: bytes(response.signature) };
        const reported = { ...quote, pcrValues: response.pcrValues };
        const values = requireQuote(reported, { attestationKey: attestationKey.area, qualifyingData, pcrs });
        return this.#admit(claim, values);
      },
    };
  }

  #readClaim(payload: TpmPayload): Claim {
    const endorsementKey = requireEndorsementKey(bytes(payload.ekPublic));
    const attestationKey = requireAttestationKey(bytes(payload.akPublic));
    const hasTrustedCertificate = this.#hasTrustedCertificate(payload, endorsementKey);
    if (this.#options.isEkCertificateRequired && !hasTrustedCertificate)
      throw new PicketError(
        'permission_denied',
        'ek_certificate_untrusted',
        'The endorsement key has no certificate of a trusted manufacturer of TPMs',
      );
    return { endorsementKey, attestationKey, hasTrustedCertificate };
  }

  #hasTrustedCertificate(payload: TpmPayload, { spki }: ClaimedEndorsementKey): boolean {
    if (payload.ekCertificate === undefined) return false;
    const certificate = parseEkCertificate(bytes(payload.ekCertificate), { ekSpki: spki });
    const { manufacturers, clock } = this.#options;
    return isEkCertificateTrusted(certificate, { manufacturers, nowMs: clock.nowMs() });
  }

  /** The operator's decision on the host; a stranger is noted, so that there is something to decide on. */
  async #requireApproved({ endorsementKey: { hash }, hasTrustedCertificate }: Claim): Promise<TpmHost> {
    const { hosts } = this.#options;
    const known = await hosts.find(hash);
    if (known?.state === 'approved') return known;
    if (known?.state === 'denied')
      throw new PicketError(
        'permission_denied',
        'ek_denied',
        `An operator denied the TPM with EK hash ${hash}`,
      );
    await hosts.notePending({ ekHash: hash, hasTrustedCertificate });
    throw new PicketError(
      'permission_denied',
      'ek_not_approved',
      `The TPM is not approved yet: an operator must approve its EK hash ${hash}`,
    );
  }

  /** Judges by what the operator wants now: a denial between challenge and answer counts. */
  async #admit(claim: Claim, values: ReadonlyMap<number, string>): Promise<AttestedNode> {
    const host = await this.#requireApproved(claim);
    requireExpectedPcrs(values, host.expectedPcrs);
    const { hasTrustedCertificate } = claim;
    if (host.hasTrustedCertificate !== hasTrustedCertificate)
      await this.#options.hosts.notePending({ ekHash: host.ekHash, hasTrustedCertificate });
    const facts = [
      `tpm:ek_hash:${host.ekHash}`,
      ...[...values].map(([pcr, value]) => `tpm:pcr:${pcr}:${value}`),
    ];
    if (hasTrustedCertificate) facts.push('tpm:has_certificate:true');
    return {
      name: host.name === '' ? host.ekHash : host.name,
      selectors: facts.map(parseSelector),
      canReattest: true,
      declaredAddresses: host.addresses,
    };
  }
}

function requireConsistent({ pcrs, isEkCertificateRequired, manufacturers }: TpmAttestorOptions): void {
  const arePcrs = pcrs.length > 0 && pcrs.every((pcr) => Number.isInteger(pcr) && pcr >= 0 && pcr <= 23);
  if (!arePcrs)
    throw new PicketError(
      'invalid_argument',
      'tpm_config_invalid',
      'The PCRs to quote are not numbers from 0 to 23',
    );
  if (isEkCertificateRequired && manufacturers.roots.length === 0)
    throw new PicketError(
      'invalid_argument',
      'tpm_config_invalid',
      "An EK certificate is required, but no manufacturer's root is configured",
    );
}

function requireSecret(response: ChallengeResponse['payload'], secret: Uint8Array): void {
  const given = bytes(response.secret);
  if (given.length === secret.length && timingSafeEqual(given, secret)) return;
  throw new PicketError(
    'permission_denied',
    'secret_wrong',
    'The TPM did not release the secret of the challenge',
  );
}

function pcrsOf(always: readonly number[], host: TpmHost): number[] {
  return [...new Set([...always, ...Object.keys(host.expectedPcrs).map(Number)])].sort((a, b) => a - b);
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'base64');
}

function base64(value: Uint8Array): string {
  return Buffer.from(value).toString('base64');
}
