import { readPolicyBundle } from '../../../shared/policy/policy-bundle.ts';
import { buildPolicy } from '../../kit/build-policy.ts';
import { PolicyEngineProcess } from '../policy-engine-process.ts';
import { hexWords, words, type FuzzTarget } from '../target.ts';

const REGO = `package picket.authz

default allow := false

allow if {
	input.caller.path == "/web"
	some role in data.roles.web
	role == "read"
	strings.count(input.request.path, "/") == 1
	sprintf("%s", [input.request.method]) == "GET"
}
`;
const { wasm } = readPolicyBundle(buildPolicy({ rego: REGO }));
const engines = new PolicyEngineProcess();

/** Modules that OPA compiled, altered: refused at load or at an evaluation, or answered; the process lives on and its memory is bounded. */
export const target: FuzzTarget = {
  seeds: [wasm],
  dictionary: [
    ...hexWords(
      '0061736d01000000',
      '00',
      '01',
      '02',
      '03',
      '05',
      '06',
      '07',
      '08',
      '09',
      '0b',
      'ffffffff0f',
      '8080808010',
      '0c00',
      '4100',
      '41ffffffff07',
      '4000',
      '3f00',
      '0b',
      '1000',
    ),
    ...words(
      'env',
      'memory',
      'opa_builtin0',
      'opa_eval',
      'builtins',
      'entrypoints',
      'opa_json_dump',
      'opa_malloc',
      '{"time.now_ns":0}',
      '{"http.send":0}',
      '{',
      '\0',
    ),
  ],
  maxBytes: 256 * 1024,
  check: async (input) => await engines.wayOf(Uint8Array.from(input)),
};
