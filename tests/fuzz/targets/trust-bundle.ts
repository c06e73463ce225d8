import { buildTrustBundleJson, parseTrustBundleJson } from '../../../shared/spiffe/bundle-json.ts';
import { parseTrustDomain } from '../../../shared/spiffe/trust-domain.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import { attempt, requireSame, words, type FuzzTarget } from '../target.ts';

const DOMAIN = parseTrustDomain('example.org');

/** Trust bundles as SPIFFE writes them: what is read and can be written is read again. */
export const target: FuzzTarget = {
  seeds: words(SEEDS.bundleJson, '{"keys":[]}'),
  dictionary: [
    ...JSON_WORDS,
    ...words('"use":"x509-svid",', '"kty":"RSA",', '"x5c":[""],', '"spiffe_sequence":1,'),
  ],
  maxBytes: 32_768,
  check(input) {
    const bundle = parseTrustBundleJson(input.toString('utf8'), DOMAIN);
    const text = attempt(() => written(bundle));
    if (text.value !== undefined) requireSame(parseTrustBundleJson(text.value, DOMAIN), bundle, 'read again');
    return `${bundle.x509Authorities.length} authorities`;
  },
};

/** A certificate's key may be one that node cannot write: it is verified when it is used, not when it is read. */
function written(bundle: Parameters<typeof buildTrustBundleJson>[0]): string | undefined {
  try {
    return buildTrustBundleJson(bundle);
  } catch {
    return undefined;
  }
}
