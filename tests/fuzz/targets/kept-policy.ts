import { LastGood } from '../../../agent/policy/last-good.ts';
import { MemoryStore } from '../../../agent/key-store/memory.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import { attemptAsync, hexWords, outcomeOfRefusal, requireSame, words, type FuzzTarget } from '../target.ts';

const POLICY = 'policy-last-good';
const SEQUENCE = 'policy-highest-sequence';

function valueOf(json: string, artifact: string): Uint8Array {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(Buffer.byteLength(json));
  return Uint8Array.from(Buffer.concat([prefix, Buffer.from(json), Buffer.from(artifact)]));
}

/** What an agent kept of its policy, as another version may have written it: read or refused, and the same when written again. */
export const target: FuzzTarget = {
  seeds: [
    valueOf(JSON.stringify(SEEDS.signedPolicy), 'artefact'),
    valueOf('{}', ''),
    ...words('{"sequence":7,"kept":5}', '{"sequence":7}'),
  ],
  dictionary: [
    ...JSON_WORDS,
    ...hexWords('00000000', '00000002', '7fffffff', 'ffffffff'),
    ...words('"kept":', '"sequence":'),
  ],
  maxBytes: 8192,
  async check(input) {
    const store = new MemoryStore();
    await store.write(POLICY, input);
    await store.write(SEQUENCE, input);
    const kept = new LastGood(store);
    const policy = await attemptAsync(async () => await kept.readPolicy());
    const sequences = await attemptAsync(async () => await kept.readSequences());
    if (policy.value !== undefined) {
      await kept.writePolicy(policy.value);
      requireSame(await kept.readPolicy(), policy.value, 'a policy read again');
    }
    if (sequences.value !== undefined) {
      await kept.writeSequences(sequences.value);
      requireSame(asJson(await kept.readSequences()), asJson(sequences.value), 'sequences read again');
    }
    return [policy, sequences]
      .map(({ refusal }) => (refusal === undefined ? 'read' : outcomeOfRefusal(refusal)))
      .join(' | ');
  },
};

/** JSON has no -0. */
const asJson = (value: unknown): string => JSON.stringify(value);
