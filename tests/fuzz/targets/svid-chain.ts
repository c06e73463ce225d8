import { verifyX509Svid } from '../../../shared/spiffe/x509-svid.ts';
import { fromWireBundle } from '../../../shared/spiffe/wire-bundle.ts';
import { SEEDS } from '../seeds.ts';
import { hexWords, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const BUNDLE = fromWireBundle(SEEDS.bundle);
const BUNDLES = new Map([[BUNDLE.trustDomain, BUNDLE]]);
const REAL = SEEDS.chain.map((text) => Buffer.from(text, 'base64'));
const VERIFIED = verifyX509Svid(REAL, BUNDLES, SEEDS.nowMs);

/** Certificates in a row, each after its length in two bytes. */
function join(chain: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(
    Buffer.concat(chain.flatMap((der) => [Buffer.of(der.length >> 8, der.length & 0xff), der])),
  );
}

function split(input: Buffer): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  for (let at = 0; at + 2 <= input.length;) {
    const end = at + 2 + input.readUInt16BE(at);
    chain.push(input.subarray(at + 2, end));
    at = end;
  }
  return chain;
}

/** The chains that peers show: what is verified is the identity that the authority signed. */
export const target: FuzzTarget = {
  seeds: [join(REAL), join(REAL.slice(0, 1)), join([...REAL, ...BUNDLE.x509Authorities])],
  dictionary: [
    ...hexWords('0603551d11', '0603551d13', '0101ff', '3000', '0000', '020102'),
    ...words('spiffe://example.org/web', 'spiffe://example.org/picket/server', '/admin'),
  ],
  maxBytes: 8192,
  check(input) {
    const verified = verifyX509Svid(split(input), BUNDLES, SEEDS.nowMs);
    requireSame(verified.spiffeId, VERIFIED.spiffeId, 'an identity that nobody signed');
    requireThat(verified.notAfterMs <= VERIFIED.notAfterMs, 'a life that nobody signed');
    return `verified ${split(input).length}`;
  },
};
