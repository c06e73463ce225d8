import tpm from '../vectors/tpm2.json' with { type: 'json' };
import recorded from './seeds.json' with { type: 'json' };

/** Bytes and texts as real programs made them, always the same. */
export const SEEDS = { ...recorded, tpm };

/** The bytes of base64 texts. */
export function fromBase64(...texts: readonly string[]): readonly Uint8Array[] {
  return texts.map((text) => Uint8Array.from(Buffer.from(text, 'base64')));
}

/** The bytes of hexadecimal texts. */
export function fromHex(...texts: readonly string[]): readonly Uint8Array[] {
  return texts.map((text) => Uint8Array.from(Buffer.from(text, 'hex')));
}
