import {
  constants,
  createCipheriv,
  createECDH,
  createHash,
  createHmac,
  type ECDH,
  publicEncrypt,
} from 'node:crypto';
import { PicketError } from '../errors/errors.ts';
import { ByteWriter } from './byte-writer.ts';
import {
  curveFacts,
  hashFacts,
  invalidStructure,
  type TpmHash,
  unsupportedStructure,
} from './tpm2-algorithms.ts';
import { buildSized, padStart } from './tpm2-buffer.ts';
import { deriveKdfA, deriveKdfE, zeroEnded } from './tpm2-key-derivation.ts';
import { publicKeyOf, type TpmKey, type TpmPublic } from './tpm2-public.ts';

/** What TPM2_ActivateCredential takes, each with its size in front. */
export interface TpmCredential {
  /** TPM2B_ID_OBJECT. */
  readonly credentialBlob: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET. */
  readonly encryptedSecret: Uint8Array;
}

/** Cryptographically secure random bytes. */
export type RandomBytes = (length: number) => Uint8Array;

const SEED_LABEL = 'IDENTITY';
const BLOCK_BYTES = 16;
const MAX_DRAWS = 8;

/**
 * TPM2_MakeCredential in software (Part 1, 24): encrypts `secret` so that only the TPM with the endorsement key releases it, and only while the
 * object named `objectName` is loaded in it. `secret` is at most as long as the digest of the endorsement key's name algorithm.
 */
export function makeTpmCredential(
  endorsementKey: TpmPublic,
  options: { readonly objectName: Uint8Array; readonly secret: Uint8Array; readonly random: RandomBytes },
): TpmCredential {
  const { nameAlgorithm: hash, symmetricBits } = endorsementKey;
  const { bytes } = hashFacts(hash);
  if (symmetricBits === null) throw unsupportedStructure('endorsement key: it has no symmetric algorithm');
  if (options.secret.length > bytes) throw new RangeError(`The secret is longer than ${bytes} bytes`);

  const { seed, encryptedSeed } = shareSeed(endorsementKey, options.random);
  const storageKey = deriveKdfA(seed, {
    hash,
    label: 'STORAGE',
    contextU: options.objectName,
    bits: symmetricBits,
  });
  const encrypted = encryptCfb(storageKey, buildSized(options.secret));
  const integrityKey = deriveKdfA(seed, { hash, label: 'INTEGRITY', bits: bytes * 8 });
  const integrity = createHmac(hash, integrityKey).update(encrypted).update(options.objectName).digest();
  return {
    credentialBlob: buildSized(Buffer.concat([buildSized(integrity), encrypted])),
    encryptedSecret: buildSized(encryptedSeed),
  };
}

interface SharedSeed {
  readonly seed: Uint8Array;
  readonly encryptedSeed: Uint8Array;
}

function shareSeed(endorsementKey: TpmPublic, random: RandomBytes): SharedSeed {
  const { key, nameAlgorithm: hash } = endorsementKey;
  if (key.kind === 'ecc') return shareSeedByEcdh(key, { hash, random });
  const bytes = key.keyBits / 8;
  const seed = random(hashFacts(hash).bytes);
  const padded = padOaep(seed, { hash, label: zeroEnded(SEED_LABEL), bytes, random });
  try {
    const options = { key: publicKeyOf(endorsementKey), padding: constants.RSA_NO_PADDING };
    return { seed, encryptedSeed: publicEncrypt(options, padded) };
  } catch (error) {
    throw invalidStructure('endorsement key: it cannot encrypt', error);
  }
}

/** One-pass Diffie-Hellman (Part 1, C.6.1): the seed is derived from an ephemeral key, whose point is what travels. */
function shareSeedByEcdh(
  key: TpmKey & { kind: 'ecc' },
  { hash, random }: { readonly hash: TpmHash; readonly random: RandomBytes },
): SharedSeed {
  const { opensslName, bytes } = curveFacts(key.curve);
  const x = padStart(key.x, bytes);
  const ephemeral = drawPrivateKey(createECDH(opensslName), () => random(bytes));
  const point = ephemeral.getPublicKey();
  const ephemeralX = point.subarray(1, 1 + bytes);
  const z = agree(ephemeral, Buffer.concat([Uint8Array.of(4), x, padStart(key.y, bytes)]));
  const bits = hashFacts(hash).bytes * 8;
  return {
    seed: deriveKdfE(z, { hash, label: SEED_LABEL, partyU: ephemeralX, partyV: x, bits }),
    encryptedSeed: Buffer.concat([buildSized(ephemeralX), buildSized(point.subarray(1 + bytes))]),
  };
}

/** Draws until the number is below the curve's order: one in 2^32 is not. */
function drawPrivateKey(ephemeral: ECDH, draw: () => Uint8Array): ECDH {
  for (let attempt = 1; ; attempt++) {
    try {
      ephemeral.setPrivateKey(draw());
      return ephemeral;
    } catch (error) {
      if (attempt === MAX_DRAWS)
        throw new PicketError('internal', 'random_unusable', 'Cannot make an ephemeral key', {
          cause: error,
        });
    }
  }
}

/** Refuses a point that is not on the curve, which could otherwise reveal bits of the ephemeral key. */
function agree(ephemeral: ECDH, point: Uint8Array): Uint8Array {
  try {
    return ephemeral.computeSecret(point);
  } catch (error) {
    throw invalidStructure('endorsement key: its point is not on the curve', error);
  }
}

/** EME-OAEP (RFC 8017, 7.1.1) with MGF1 of the same hash; its randomness is an argument, which node:crypto does not allow. */
function padOaep(
  message: Uint8Array,
  options: {
    readonly hash: TpmHash;
    readonly label: Uint8Array;
    readonly bytes: number;
    readonly random: RandomBytes;
  },
): Uint8Array {
  const { hash, label, bytes } = options;
  const hashBytes = hashFacts(hash).bytes;
  const block = new Uint8Array(bytes - hashBytes - 1);
  block.set(createHash(hash).update(label).digest());
  block[block.length - message.length - 1] = 1;
  block.set(message, block.length - message.length);
  const seed = options.random(hashBytes);
  const maskedBlock = xor(block, maskOf(seed, { hash, bytes: block.length }));
  const maskedSeed = xor(seed, maskOf(maskedBlock, { hash, bytes: hashBytes }));
  return Buffer.concat([Uint8Array.of(0), maskedSeed, maskedBlock]);
}

function maskOf(
  seed: Uint8Array,
  { hash, bytes }: { readonly hash: TpmHash; readonly bytes: number },
): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (let counter = 0; counter * hashFacts(hash).bytes < bytes; counter++)
    blocks.push(createHash(hash).update(seed).update(new ByteWriter().u32(counter).toBytes()).digest());
  return Buffer.concat(blocks).subarray(0, bytes);
}

function xor(left: Uint8Array, right: Uint8Array): Uint8Array {
  return left.map((byte, index) => byte ^ (right[index] ?? 0));
}

/** CFB with 128-bit feedback and a zero IV: the key is used once. */
function encryptCfb(key: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv(`aes-${key.length * 8}-cfb`, key, new Uint8Array(BLOCK_BYTES));
  return Buffer.concat([cipher.update(plaintext), cipher.final()]);
}
