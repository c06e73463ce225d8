import { PicketError } from '../../shared/errors/errors.ts';
import { parseTpmQuote } from '../../shared/wire/tpm2-attest.ts';
import { computePcrDigest, selectsExactly } from '../../shared/wire/tpm2-pcr-selection.ts';
import type { TpmPublic } from '../../shared/wire/tpm2-public.ts';
import { isTpmSignatureValid, parseTpmSignature } from '../../shared/wire/tpm2-signature.ts';

/** A quote as a host reports it. */
export interface ReportedQuote {
  /** TPMS_ATTEST and TPMT_SIGNATURE. */
  readonly quote: Uint8Array;
  readonly signature: Uint8Array;
  /** SHA-256 values in hexadecimal, in the order of the challenge. */
  readonly pcrValues: readonly string[];
}

/**
 * Requires that the attestation key signed a quote of exactly the challenged PCRs, over exactly `qualifyingData`, and that the reported values are the
 * quoted ones. Returns them by PCR. Throws `permission_denied`, reasons `quote_signature_invalid`, `quote_not_bound`, `quote_pcrs_wrong`,
 * `quote_values_wrong`; for malformed structures as `parseTpmQuote` and `parseTpmSignature`.
 */
export function requireQuote(
  reported: ReportedQuote,
  expected: {
    readonly attestationKey: TpmPublic;
    readonly qualifyingData: Uint8Array;
    readonly pcrs: readonly number[];
  },
): ReadonlyMap<number, string> {
  const signature = parseTpmSignature(reported.signature);
  if (!isTpmSignatureValid(expected.attestationKey, { message: reported.quote, signature }))
    throw refused('quote_signature_invalid', 'was not signed by the attestation key');
  const quote = parseTpmQuote(reported.quote);
  if (!Buffer.from(quote.extraData).equals(expected.qualifyingData))
    throw refused('quote_not_bound', 'belongs to another challenge, certificate request or server');
  if (!selectsExactly(quote.selection, expected.pcrs))
    throw refused('quote_pcrs_wrong', 'is over other PCRs than those of the challenge');
  const values = valuesByPcr(expected.pcrs, reported.pcrValues);
  const digests = new Map([...values].map(([pcr, value]) => [pcr, Buffer.from(value, 'hex')]));
  if (!Buffer.from(quote.pcrDigest).equals(computePcrDigest(digests)))
    throw refused('quote_values_wrong', 'is over other values than those reported');
  return values;
}

/**
 * Requires that every PCR with expected values has one of them. Throws `permission_denied`, reason `pcr_unexpected`; which one it was stays in the
 * cause, for the operator's log.
 */
export function requireExpectedPcrs(
  values: ReadonlyMap<number, string>,
  expected: Readonly<Record<string, readonly string[]>>,
): void {
  for (const [pcr, accepted] of Object.entries(expected)) {
    const value = values.get(Number(pcr));
    if (value !== undefined && accepted.includes(value)) continue;
    throw new PicketError(
      'permission_denied',
      'pcr_unexpected',
      'The host is not in a state that it is expected in',
      {
        cause: new Error(`PCR ${pcr} is ${value ?? 'not quoted'}`),
      },
    );
  }
}

function valuesByPcr(pcrs: readonly number[], values: readonly string[]): ReadonlyMap<number, string> {
  if (values.length !== pcrs.length)
    throw refused('quote_values_wrong', `has ${pcrs.length} PCRs, but ${values.length} values are reported`);
  return new Map(pcrs.map((pcr, index) => [pcr, values[index] ?? '']));
}

function refused(reason: string, why: string): PicketError {
  return new PicketError('permission_denied', reason, `The TPM's quote ${why}`);
}
