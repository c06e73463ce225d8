import { areSameTerms, findTermsFault, readTerms } from '../../../shared/policy/egress-terms.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { JSON_WORDS } from '../json-words.ts';
import { requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const HEX = 'ab'.repeat(32);
const SEEDS = [
  { via: 'spiffe://example.org/gateway' },
  { server_certificate: { spki_sha256: [HEX, Buffer.from(HEX, 'hex').toString('base64')] } },
  { via: 'spiffe://example.org/gateway', server_certificate: { authority: 'partner-ca' } },
  { inspect: true },
];

/** Terms of a policy's result: where none is at fault, each that was named is read, and the same again from what was read. */
export const target: FuzzTarget = {
  seeds: words(...SEEDS.map((seed) => JSON.stringify(seed))),
  dictionary: [
    ...JSON_WORDS,
    ...words('via', 'server_certificate', 'spki_sha256', 'authority', 'inspect', 'null', 'spiffe://', HEX),
  ],
  maxBytes: 4096,
  check(input) {
    const result = readResult(input.toString('utf8'));
    if (result === undefined) return 'no result';
    if (findTermsFault(result) !== undefined) return 'fault';
    const terms = readTerms(result);
    const has = (name: string): boolean => Object.hasOwn(result, name) && result[name] !== null;
    requireThat((terms?.via !== undefined) === has('via'), 'a gateway is read where it is named');
    requireThat((terms?.certificate !== undefined) === has('server_certificate'), 'as is a certificate');
    requireThat((terms?.isInspected === true) === (result['inspect'] === true), 'and an inspection');
    if (terms?.via !== undefined) requireSame(parseSpiffeId(terms.via), terms.via, 'the gateway');
    const { spkiSha256, authority } = terms?.certificate ?? {};
    requireThat(
      terms?.certificate === undefined || spkiSha256 !== undefined || authority !== undefined,
      'a certificate is asked for something',
    );
    const again = readTerms({
      via: terms?.via,
      inspect: terms?.isInspected,
      ...(terms?.certificate === undefined
        ? {}
        : { server_certificate: { spki_sha256: spkiSha256, authority } }),
    });
    requireThat(areSameTerms(terms, again), 'terms that were read are read again');
    return `${terms?.via === undefined ? '' : 'via'} ${spkiSha256?.length ?? 0} ${authority === undefined ? '' : 'authority'}`;
  },
};

function readResult(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    const isResult = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isResult ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}
