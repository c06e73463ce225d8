import { createHash } from 'node:crypto';
import { EK_TEMPLATES, type EkTemplate } from '../../shared/wire/tpm2-templates.ts';
import type { TpmAuthorization } from '../../shared/wire/tpm2-command.ts';
import { parseTpmPublic, spkiOf } from '../../shared/wire/tpm2-public.ts';
import type { TpmClient, TpmHandle } from './tpm-client.ts';

/** Which endorsement key to attest with: `auto` takes the first one that has a certificate, RSA first. */
export type EkChoice = 'auto' | 'rsa' | 'ecc';

export interface EndorsementKey {
  readonly handle: TpmHandle;
  readonly template: EkTemplate;
  /** TPMT_PUBLIC. */
  readonly publicArea: Uint8Array;
  /** DER of the manufacturer's certificate, when there is one in NV. */
  readonly certificate: Uint8Array | undefined;
}

const CANDIDATES: Readonly<Record<EkChoice, readonly EkTemplate[]>> = {
  rsa: [EK_TEMPLATES.rsa2048],
  ecc: [EK_TEMPLATES.eccP256, EK_TEMPLATES.eccP384],
  auto: [EK_TEMPLATES.rsa2048, EK_TEMPLATES.eccP256, EK_TEMPLATES.eccP384],
};

/**
 * Makes the endorsement key anew from the TPM's seed and reads its certificate. Without any certificate in NV it is the first candidate's key. The
 * caller flushes `handle`.
 */
export async function createEndorsementKey(
  client: TpmClient,
  options: { readonly choice: EkChoice; readonly endorsement: TpmAuthorization },
): Promise<EndorsementKey> {
  const { template, certificate } = await chooseTemplate(client, CANDIDATES[options.choice]);
  const { handle, publicArea } = await client.createPrimary(template.area, options.endorsement);
  return { handle, template, publicArea, certificate };
}

/** What an operator approves: SHA-256 of the key's SubjectPublicKeyInfo, in hexadecimal. */
export function computeEkHash(publicArea: Uint8Array): string {
  return createHash('sha256')
    .update(spkiOf(parseTpmPublic(publicArea)))
    .digest('hex');
}

async function chooseTemplate(
  client: TpmClient,
  candidates: readonly EkTemplate[],
): Promise<{ readonly template: EkTemplate; readonly certificate: Uint8Array | undefined }> {
  for (const template of candidates) {
    const certificate = trimDer(await client.findNvData(template.certificateNvIndex));
    if (certificate) return { template, certificate };
  }
  const [template = EK_TEMPLATES.rsa2048] = candidates;
  return { template, certificate: undefined };
}

/** The one DER SEQUENCE at the start: manufacturers fill the rest of the index with zeros or 0xff. Anything else is no certificate. */
function trimDer(bytes: Uint8Array | undefined): Uint8Array | undefined {
  if (!bytes || bytes[0] !== 0x30 || bytes[1] !== 0x82) return undefined;
  const length = 4 + ((bytes[2] ?? 0) << 8) + (bytes[3] ?? 0);
  return length <= bytes.length ? bytes.subarray(0, length) : undefined;
}
