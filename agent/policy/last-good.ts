import { z } from 'zod';
import { signedPolicy, type SignedPolicy } from '../../shared/protocol/policy-statement.ts';
import { counter } from '../../shared/protocol/wire-values.ts';
import { parseSealedJson, unknownState } from '../key-store/sealed-json.ts';
import type { SealedStore } from '../key-store/sealed-store.ts';

const POLICY = 'policy-last-good';
const SEQUENCE = 'policy-highest-sequence';

/** Length of the length of the signed policy's JSON at the head of the stored value, big endian. */
const PREFIX_BYTES = 4;

const sequenceRecord = z.object({
  sequence: counter,
  /** Of the policy that was kept last; absent in a record of before it was kept. */
  kept: counter.default(0),
});

/** What is remembered of sequences. */
export interface KnownSequences {
  /** The highest that was ever proven; 0 where none was. */
  readonly highest: number;
  /** That of the policy that was kept last, so that an older one put in its place is told; 0 where none was. */
  readonly kept: number;
}

/** A policy that was in force, as it came. */
export interface KeptPolicy {
  readonly signed: SignedPolicy;
  readonly artifact: Uint8Array;
}

/**
 * What survives a restart: the last policy that was in force, and the highest sequence that was ever proven. Reading rejects with
 * `seal_broken` for what was altered on disk, with `state_unknown` for what another version of Picket wrote.
 */
export class LastGood {
  readonly #store: SealedStore;

  constructor(store: SealedStore) {
    this.#store = store;
  }

  async readPolicy(): Promise<KeptPolicy | undefined> {
    const value = await this.#store.read(POLICY);
    if (value === undefined) return undefined;
    if (value.length < PREFIX_BYTES) throw unknownState(POLICY);
    const bytes = Buffer.from(value);
    const end = PREFIX_BYTES + bytes.readUInt32BE(0);
    const signed = parseSealedJson(POLICY, bytes.subarray(PREFIX_BYTES, end), signedPolicy);
    return { signed, artifact: bytes.subarray(end) };
  }

  /** Signed policy and artefact go into one value, so that after a crash they still belong together. */
  async writePolicy(policy: KeptPolicy): Promise<void> {
    const json = Buffer.from(JSON.stringify(policy.signed));
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(json.length);
    await this.#store.write(POLICY, Buffer.concat([prefix, json, policy.artifact]));
  }

  async readSequences(): Promise<KnownSequences> {
    const value = await this.#store.read(SEQUENCE);
    if (value === undefined) return { highest: 0, kept: 0 };
    const { sequence, kept } = parseSealedJson(SEQUENCE, value, sequenceRecord);
    return { highest: sequence, kept };
  }

  async writeSequences({ highest, kept }: KnownSequences): Promise<void> {
    await this.#store.write(SEQUENCE, Buffer.from(JSON.stringify({ sequence: highest, kept })));
  }
}
