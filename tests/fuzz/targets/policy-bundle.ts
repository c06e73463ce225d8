import { gunzipSync, gzipSync } from 'node:zlib';
import { parseSubmission } from '../../../server/policy-admin/submission.ts';
import { buildPolicyBundle, readPolicyBundle } from '../../../shared/policy/policy-bundle.ts';
import { buildTar } from '../../../shared/policy/tar.ts';
import {
  attempt,
  hexWords,
  outcomeOfRefusal,
  requireSame,
  requireThat,
  words,
  type FuzzTarget,
} from '../target.ts';

const BUNDLE = buildPolicyBundle({
  wasm: Buffer.from('\0asm\x01\0\0\0', 'latin1'),
  data: Buffer.from('{"a":1}'),
});
const SOURCE = gzipSync(
  buildTar(
    new Map([
      ['policy.rego', Buffer.from('package picket.authz\n')],
      ['.manifest', Buffer.from('{"rego_version":0}')],
      ['README', Buffer.from('read')],
    ]),
  ),
);
const JSON_SOURCE =
  '{"files":{"policy.rego":"package a\\n","data.json":"{}"},"message":"m","rego_version":1}';

/** Compiled policies and submissions, compressed; each input is also tried with its inside compressed anew. */
export const target: FuzzTarget = {
  seeds: [
    BUNDLE,
    SOURCE,
    gunzipSync(BUNDLE),
    gunzipSync(SOURCE),
    ...words(JSON_SOURCE),
    gzipSync(Buffer.alloc(4 << 20)),
  ],
  dictionary: [
    ...hexWords('1f8b0800', '1f8b', '0000ffff', 'ff'),
    ...words('"__proto__":"x",', '"../a.rego":"",', '"a.rego":"",', '.manifest', '{', '\\ud800'),
  ],
  maxBytes: 32_768,
  check: (input) => [input, gzipSync(input, { level: 1 })].map(wayOf).join(' | '),
};

function wayOf(bytes: Uint8Array): string {
  const bundle = attempt(() => readPolicyBundle(bytes));
  if (bundle.value !== undefined) {
    const again = readPolicyBundle(buildPolicyBundle(bundle.value));
    requireSame(Buffer.from(again.wasm), Buffer.from(bundle.value.wasm), 'a policy read again');
    requireSame(Buffer.from(again.data), Buffer.from(bundle.value.data), 'data read again');
  }
  const submission = attempt(() => parseSubmission(bytes));
  if (submission.value !== undefined) {
    const names = Object.keys(submission.value.files);
    requireThat(
      names.some((name) => name.endsWith('.rego')),
      'a submission without rules',
    );
    requireThat(
      names.every((name) => !`/${name}/`.includes('/../') && !name.startsWith('/')),
      'a name leaves its folder',
    );
  }
  return [bundle, submission]
    .map(({ refusal }) => (refusal === undefined ? 'read' : outcomeOfRefusal(refusal)))
    .join();
}
