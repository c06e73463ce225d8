import { openSignedPolicy } from '../../../shared/policy/signed-policy.ts';
import { signedPolicy } from '../../../shared/protocol/policy-statement.ts';
import { verifyPolicySignature } from '../../../shared/spiffe/policy-signer.ts';
import { fromWireBundle } from '../../../shared/spiffe/wire-bundle.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import { requireThat, words, type FuzzTarget } from '../target.ts';

const BUNDLE = fromWireBundle(SEEDS.bundle);

/** A signed policy: only the very statement that was signed is opened. */
export const target: FuzzTarget = {
  seeds: words(JSON.stringify(SEEDS.signedPolicy)),
  dictionary: [...JSON_WORDS, ...words(...SEEDS.chain, SEEDS.signedPolicy.signature, 'mesh', 'AAAA', '=')],
  maxBytes: 8192,
  async check(input) {
    const parsed = signedPolicy.safeParse(readJson(input.toString('utf8')));
    if (!parsed.success)
      return `refused ${parsed.error.issues[0]?.code} ${parsed.error.issues[0]?.path.join('.')}`;
    const statement = await openSignedPolicy(parsed.data, {
      trustDomain: BUNDLE.trustDomain,
      target: 'mesh',
      verifySignature: (signed) => verifyPolicySignature(signed, BUNDLE, SEEDS.nowMs),
    });
    requireThat(
      parsed.data.statement === SEEDS.signedPolicy.statement,
      'a statement that nobody signed was opened',
    );
    return `opened ${statement.sequence}`;
  },
};

function readJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
