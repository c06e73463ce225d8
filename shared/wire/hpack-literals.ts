import { decodeHuffman, maxDecodedBytes } from './hpack-huffman.ts';

/** A text whose bytes were read before: they come again with nearly every request. */
interface KnownText {
  readonly bytes: Uint8Array;
  readonly isHuffman: boolean;
  readonly text: string;
}

const KNOWN_TEXTS = 1024;
const MAX_KNOWN_BYTES = 64;

const known: (KnownText | undefined)[] = [];
let scratch = Buffer.alloc(0);

/**
 * The text of a string literal's bytes (RFC 7541 5.2), one character for each byte; undefined for a wrong Huffman code. What is short is remembered, at most
 * 1,024 texts for all who ask.
 */
export function readText(
  bytes: Buffer,
  range: { readonly start: number; readonly end: number },
  isHuffman: boolean,
): string | undefined {
  const { start, end } = range;
  const length = end - start;
  if (length === 0 || length > MAX_KNOWN_BYTES) return decodeText(bytes, range, isHuffman);
  const slot = slotOf(bytes, start, end);
  const before = known[slot];
  if (before?.isHuffman === isHuffman && isSame(before.bytes, bytes, range)) return before.text;
  const text = decodeText(bytes, range, isHuffman);
  if (text !== undefined)
    known[slot] = { bytes: new Uint8Array(bytes.subarray(start, end)), isHuffman, text };
  return text;
}

function decodeText(
  bytes: Buffer,
  range: { readonly start: number; readonly end: number },
  isHuffman: boolean,
): string | undefined {
  if (!isHuffman) return bytes.toString('latin1', range.start, range.end);
  const needed = maxDecodedBytes(range.end - range.start);
  if (scratch.length < needed) scratch = Buffer.alloc(needed);
  const length = decodeHuffman(bytes, range, scratch);
  return length < 0 ? undefined : scratch.toString('latin1', 0, length);
}

/** Four of the bytes tell most texts apart; those that they do not take each other's place. */
function slotOf(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start;
  const mixed =
    length * 31 +
    (bytes[start] ?? 0) * 7 +
    (bytes[start + (length >> 1)] ?? 0) * 131 +
    (bytes[start + (length >> 2)] ?? 0) * 263 +
    (bytes[end - 1] ?? 0) * 521;
  return mixed & (KNOWN_TEXTS - 1);
}

function isSame(
  text: Uint8Array,
  bytes: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
): boolean {
  if (text.length !== end - start) return false;
  for (let i = 0; i < text.length; i++) if (text[i] !== bytes[start + i]) return false;
  return true;
}
