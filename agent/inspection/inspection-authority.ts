import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { describeError, PicketError } from '../../shared/errors/errors.ts';
import type { DecisionReason } from '../../shared/policy/decision.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { permitsDnsName } from '../../shared/wire/x509-name-constraints.ts';
import { readAuthorityCertificate, type AuthorityCertificate } from './authority-certificate.ts';
import type { InspectionMaterial, InspectionStatus } from './inspection.ts';
import { issueInspectionLeaf } from './inspection-leaf.ts';

/** A certificate with its key, PEM, as a server of TLS shows it: with the chain up to the authority. */
export interface IssuedCertificate {
  readonly chainPem: string;
  readonly keyPem: string;
}

interface Kept extends IssuedCertificate {
  /** From then on a new one is made. */
  readonly untilMs: number;
}

const HOUR_MS = 3_600_000;
/** The clock of a program may be behind. */
const BACKDATED_MS = HOUR_MS;
const LIFE_MS = 12 * HOUR_MS;
/** A connection that begins with it should not outlive it. */
const SHOWN_MS = 6 * HOUR_MS;
const MAX_KEPT = 1024;
const SERIAL_BYTES = 16;

/**
 * The authority by which this host stands for outside servers whose TLS it ends. Its certificates are made when they are needed, kept for a while, and have one key, which is never written down:
 * it is made anew with each process.
 */
export class InspectionAuthority {
  readonly #authority: AuthorityCertificate;
  readonly #chainPem: string;
  readonly #clock: Clock;
  readonly #keyPem: string;
  readonly #publicKeySpki: Uint8Array;
  /** By name, in the order of their last use. */
  readonly #kept = new Map<string, Kept>();

  /** Throws `failed_precondition`, reason `inspection_invalid`, where it may not or cannot certify servers. */
  constructor(material: Pick<InspectionMaterial, 'chainPem' | 'keyPem'>, clock: Clock) {
    try {
      this.#authority = readAuthorityCertificate(material, clock.nowMs());
    } catch (cause) {
      const message = `Cannot inspect TLS by the authority that is configured: ${describeError(cause)}`;
      throw new PicketError('failed_precondition', 'inspection_invalid', message, { cause });
    }
    this.#clock = clock;
    this.#chainPem = material.chainPem;
    const { privateKey, publicKey } = generateKeyPairSync('ec', {
      namedCurve: 'P-256',
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    this.#keyPem = privateKey;
    this.#publicKeySpki = createPublicKey(publicKey).export({ type: 'spki', format: 'der' });
  }

  get status(): InspectionStatus {
    const { subjectText: authority, notAfterMs } = this.#authority;
    return { authority, notAfterMs };
  }

  /** Why it cannot stand for a server of that name (in lower case) now; undefined where it can. */
  findFault(
    name: string,
  ): { readonly reason: Exclude<DecisionReason, 'policy_allow'>; readonly message: string } | undefined {
    const { notAfterMs, constraints } = this.#authority;
    if (notAfterMs <= this.#clock.nowMs())
      return {
        reason: 'inspection_not_configured',
        message: 'The certificate of the authority that inspects TLS on the host that dials has ended',
      };
    if (constraints.some((each) => !permitsDnsName(each, name)))
      return {
        reason: 'inspection_refused',
        message: `The authority that inspects TLS may not certify ${name} (name constraints)`,
      };
    return undefined;
  }

  /** The certificate for a name of which `findFault` says nothing. */
  issue(name: string): IssuedCertificate {
    const nowMs = this.#clock.nowMs();
    const found = this.#kept.get(name);
    const issued = found !== undefined && nowMs < found.untilMs ? found : this.#make(name, nowMs);
    this.#kept.delete(name);
    this.#kept.set(name, issued);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    return issued;
  }

  #make(name: string, nowMs: number): Kept {
    const { notBeforeMs, notAfterMs } = this.#authority;
    const leaf = {
      name,
      serial: randomSerial(),
      notBeforeMs: Math.max(notBeforeMs, nowMs - BACKDATED_MS),
      notAfterMs: Math.min(notAfterMs, nowMs + LIFE_MS),
      publicKeySpki: this.#publicKeySpki,
    };
    const pem = encodePem('CERTIFICATE', issueInspectionLeaf(leaf, this.#authority));
    const untilMs = Math.min(nowMs + SHOWN_MS, leaf.notAfterMs);
    return { chainPem: `${pem}${this.#chainPem}`, keyPem: this.#keyPem, untilMs };
  }
}

/** Positive, and never zero (RFC 5280 4.1.2.2). */
function randomSerial(): Uint8Array {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}
