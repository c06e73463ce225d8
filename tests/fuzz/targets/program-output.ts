import { findForeignChains } from '../../../agent/capture/foreign-chains.ts';
import {
  findInputPaths,
  findTestResults,
  readErrors,
  readFiredRules,
} from '../../../server/policy-admin/opa-output.ts';
import { JSON_WORDS } from '../json-words.ts';
import { requireThat, words, type FuzzTarget } from '../target.ts';

const NFT_CHAINS = `table inet picket {
	chain guard_input {
		type filter hook input priority filter; policy drop;
	}
}
table ip filter {
	chain DOCKER-USER {
	}
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
table inet firewalld {
}
`;
const LOCATION = { file: '/policy.rego', row: 3 };
const REF = [
  { type: 'var', value: 'input' },
  { type: 'string', value: 'request' },
  { type: 'var', value: 'x' },
];

/** What nft and opa print, in which names stand that others chose: read as far as it can be, and nothing of ours taken for foreign. */
export const target: FuzzTarget = {
  seeds: words(
    NFT_CHAINS,
    JSON.stringify({
      errors: [{ message: 'undefined function http.send', code: 'rego_type_error', location: LOCATION }],
    }),
    'error: policy.rego:3: rego_parse_error: unexpected token\n2 errors occurred:\n/a/b.rego:1: rego_type_error: x\n',
    JSON.stringify([
      { location: LOCATION, package: 'data.a', name: 'test_x', fail: true, error: { message: 'm' } },
    ]),
    JSON.stringify({
      explanation: [{ Op: 'Exit', Node: { head: { ref: [{ value: 'allow' }] } }, Location: LOCATION }],
    }),
    JSON.stringify({ base: [REF] }),
  ),
  dictionary: [
    ...JSON_WORDS,
    ...words(
      'table ',
      'inet picket {\n',
      '\tchain ',
      'DOCKER',
      'ufw-',
      '\t\ttype filter hook output ',
      'policy drop;',
      '"Op":"Exit"',
      'rego_',
      ':1: ',
    ),
  ],
  maxBytes: 8192,
  check(input) {
    const text = input.toString('utf8');
    const { programs, dropping } = findForeignChains(text);
    requireThat(!dropping.some((chain) => chain.startsWith('inet picket ')), 'a chain of ours is foreign');
    requireThat(new Set(programs).size === programs.length, 'a program twice');
    const { reason, faults } = readErrors(text, (name) => name === 'http.send');
    requireThat(
      faults.every(({ line }) => Number.isInteger(line)),
      'a line that is no number',
    );
    const tests = findTestResults(text);
    requireThat((tests?.passed ?? 0) >= 0, 'fewer than no tests passed');
    const rules = readFiredRules(text, { 'policy.rego': 'package picket.authz\n' });
    return [
      programs.length,
      dropping.length,
      reason,
      faults.length > 1,
      tests?.faults.length,
      rules.length,
      findInputPaths(text)?.length,
    ]
      .map((each) => (typeof each === 'number' ? Math.min(each, 3) : each))
      .join(' ');
  },
};
