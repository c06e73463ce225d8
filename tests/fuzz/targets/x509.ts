import { X509Certificate } from 'node:crypto';
import { readLeafIdentity } from '../../../shared/spiffe/x509-svid.ts';
import { parseX509Certificate, type ParsedCertificate } from '../../../shared/wire/x509-certificate.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import {
  attempt,
  hexWords,
  outcomeOfRefusal,
  requireSame,
  requireThat,
  words,
  type FuzzTarget,
} from '../target.ts';

/** Certificates, and the identity in a leaf; where BoringSSL reads one too, it must read the same. */
export const target: FuzzTarget = {
  seeds: fromBase64(SEEDS.leaf, ...SEEDS.chain, ...SEEDS.signedPolicy.chain, ...SEEDS.bundle.x509Authorities),
  dictionary: [
    ...hexWords(
      '0603551d11',
      '0603551d13',
      '0603551d0f',
      '0603551d25',
      '0101ff',
      '3000',
      '30030101ff',
      '8600',
      'a000',
      '020102',
    ),
    ...words('spiffe://example.org/web', 'spiffe://', 'SPIFFE://Example.org/a', '/../', '\0'),
  ],
  maxBytes: 9000,
  check(input) {
    const certificate = parseX509Certificate(input);
    compareWithBoringSsl(certificate, input);
    const leaf = attempt(() => readLeafIdentity(input));
    if (leaf.refusal !== undefined) return `certificate, ${outcomeOfRefusal(leaf.refusal)}`;
    const { uris } = certificate.extensions.subjectAlternativeName ?? { uris: [] };
    requireSame(uris.length, 1, 'names of a leaf');
    requireThat(
      uris[0]?.toLowerCase() === leaf.value.spiffeId.toLowerCase(),
      'another identity than the name',
    );
    return `leaf ${certificate.extensions.notUnderstood.length}`;
  },
};

function compareWithBoringSsl(ours: ParsedCertificate, der: Buffer): void {
  let theirs: X509Certificate;
  try {
    theirs = new X509Certificate(der);
  } catch {
    return;
  }
  requireSame(BigInt(`0x${ours.serial}`), BigInt(`0x${theirs.serialNumber}`), 'serial');
  requireSame(ours.notBeforeMs, Date.parse(theirs.validFrom), 'begin of validity');
  requireSame(ours.notAfterMs, Date.parse(theirs.validTo), 'end of validity');
  requireThat(!theirs.ca || ours.extensions.basicConstraints?.isAuthority === true, 'an authority unseen');
  const names = theirs.subjectAltName ?? '';
  for (const uri of ours.extensions.subjectAlternativeName?.uris ?? [])
    if (/^[\w:/.-]+$/.test(uri)) requireThat(names.includes(`URI:${uri}`), `${uri} is not in ${names}`);
}
