import { createHash, createHmac } from 'node:crypto';
import { ByteWriter } from './byte-writer.ts';
import type { TpmHash } from './tpm2-algorithms.ts';

const NO_CONTEXT = new Uint8Array(0);

/** KDFa (Part 1, 11.4.10.2): counter mode of SP 800-108 with HMAC. `bits` is a multiple of eight. */
export function deriveKdfA(
  key: Uint8Array,
  input: {
    readonly hash: TpmHash;
    readonly label: string;
    readonly contextU?: Uint8Array;
    readonly contextV?: Uint8Array;
    readonly bits: number;
  },
): Uint8Array {
  const fixed = new ByteWriter()
    .bytes(zeroEnded(input.label))
    .bytes(input.contextU ?? NO_CONTEXT)
    .bytes(input.contextV ?? NO_CONTEXT)
    .u32(input.bits)
    .toBytes();
  return expand(input.bits, (counter) => createHmac(input.hash, key).update(counter).update(fixed).digest());
}

/** KDFe (Part 1, 11.4.10.3): concatenation of SP 800-56A over the shared secret `z`. `bits` is a multiple of eight. */
export function deriveKdfE(
  z: Uint8Array,
  input: {
    readonly hash: TpmHash;
    readonly label: string;
    readonly partyU: Uint8Array;
    readonly partyV: Uint8Array;
    readonly bits: number;
  },
): Uint8Array {
  const fixed = Buffer.concat([z, zeroEnded(input.label), input.partyU, input.partyV]);
  return expand(input.bits, (counter) => createHash(input.hash).update(counter).update(fixed).digest());
}

/** A label as the TPM's functions want it: ASCII with a zero at its end. */
export function zeroEnded(label: string): Uint8Array {
  return Buffer.from(`${label}\0`, 'ascii');
}

function expand(bits: number, block: (counter: Uint8Array) => Uint8Array): Uint8Array {
  const wanted = bits / 8;
  const blocks: Uint8Array[] = [];
  for (let counter = 1, length = 0; length < wanted; counter++) {
    const next = block(new ByteWriter().u32(counter).toBytes());
    blocks.push(next);
    length += next.length;
  }
  return Buffer.concat(blocks).subarray(0, wanted);
}
