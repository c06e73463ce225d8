import { HUFFMAN_CODE_LENGTHS } from './hpack-huffman-code.ts';

/** A Huffman code makes a text at most this many times longer: the shortest code has 5 bits. */
const MAX_EXPANSION = 8 / 5;
const STATES = 256;
const END_OF_STRING = 256;
/** A child of a node that is no node but a symbol. */
const LEAF = 1000;

/**
 * The code as a machine that takes whole bytes. Its states are the 256 inner nodes of the code's tree. For state and byte:
 *   | bits 0-7   | 8-9                        | 10-17        | 18-25         | 26                                  |
 *   | next state | symbols that were complete | first symbol | second symbol | the end-of-string symbol was within |
 */
interface Machine {
  readonly steps: Uint32Array;
  /** By state, 1 where a text may end: the bits since its last symbol are ones, fewer than eight (RFC 7541 5.2). */
  readonly isEnd: Uint8Array;
}

let machine: Machine | undefined;

/** How many bytes the text of a code of `length` bytes may have. */
export function maxDecodedBytes(length: number): number {
  return Math.ceil(length * MAX_EXPANSION);
}

/**
 * Decodes the code in `bytes` from `start` to `end` into `target`, which has room for `maxDecodedBytes`. Returns the length of the text, or -1 when that is no
 * code of a text (RFC 7541 5.2).
 */
export function decodeHuffman(
  bytes: Uint8Array,
  range: { readonly start: number; readonly end: number },
  target: Uint8Array,
): number {
  const { steps, isEnd } = (machine ??= buildMachine());
  let state = 0;
  let length = 0;
  for (let at = range.start; at < range.end; at++) {
    const step = steps[(state << 8) | (bytes[at] ?? 0)] ?? 0;
    const symbols = step & 0x300;
    if (symbols !== 0) {
      target[length++] = step >>> 10;
      if (symbols === 0x200) target[length++] = step >>> 18;
    }
    if (step >= 0x400_0000) return -1;
    state = step & 0xff;
  }
  return isEnd[state] === 1 ? length : -1;
}

/** The children of each inner node, for a bit that is zero and one: a node, or `LEAF` and a symbol. */
interface Tree {
  readonly zero: Int32Array;
  readonly one: Int32Array;
}

function buildMachine(): Machine {
  const tree = buildTree();
  const steps = new Uint32Array(STATES * 256);
  for (let state = 0; state < STATES; state++)
    for (let byte = 0; byte < 256; byte++) steps[(state << 8) | byte] = takeByte(tree, state, byte);
  const isEnd = new Uint8Array(STATES);
  for (let bits = 0, node = 0; bits < 8; bits++, node = tree.one[node] ?? 0) isEnd[node] = 1;
  return { steps, isEnd };
}

function buildTree(): Tree {
  const zero = new Int32Array(STATES);
  const one = new Int32Array(STATES);
  const symbols = HUFFMAN_CODE_LENGTHS.map((length, symbol) => ({ length, symbol }));
  symbols.sort((a, b) => a.length - b.length || a.symbol - b.symbol);
  let nodes = 1;
  let code = 0;
  let codeLength = symbols[0]?.length ?? 0;
  for (const { length, symbol } of symbols) {
    code <<= length - codeLength;
    codeLength = length;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const children = (code >>> bit) & 1 ? one : zero;
      if (children[node] === 0) children[node] = nodes++;
      node = children[node] ?? 0;
    }
    (code & 1 ? one : zero)[node] = LEAF + symbol;
    code++;
  }
  return { zero, one };
}

function takeByte({ zero, one }: Tree, state: number, byte: number): number {
  let node = state;
  let count = 0;
  let symbols = 0;
  for (let bit = 7; bit >= 0; bit--) {
    const child = ((byte >>> bit) & 1 ? one : zero)[node] ?? 0;
    if (child < LEAF) {
      node = child;
      continue;
    }
    if (child - LEAF === END_OF_STRING) return 0x400_0000;
    symbols |= (child - LEAF) << (count === 0 ? 10 : 18);
    count++;
    node = 0;
  }
  return node | (count << 8) | symbols;
}
