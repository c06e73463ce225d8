import type { SeededRandom } from './random.ts';

/** What a mutation may draw from besides the input itself. */
export interface MutationSource {
  readonly random: SeededRandom;
  /** Inputs to splice with; not empty. */
  readonly corpus: readonly Uint8Array[];
  /** Words of the format. */
  readonly dictionary: readonly Uint8Array[];
  readonly maxBytes: number;
}

type Mutation = (input: Uint8Array, source: MutationSource) => Uint8Array;

const MAX_ROUNDS = 6;

/** Values at which arithmetic on lengths goes wrong. */
const EDGES = [0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000] as const;
const WIDE_EDGES = [0xff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] as const;

/** `input` after one to six random changes, at most `maxBytes` long. The input stays as it is. */
export function mutate(input: Uint8Array, source: MutationSource): Uint8Array {
  let mutated = input;
  for (let rounds = source.random.small(MAX_ROUNDS); rounds > 0; rounds--)
    mutated = source.random.pick(MUTATIONS)(mutated, source).subarray(0, source.maxBytes);
  return mutated;
}

const MUTATIONS: readonly Mutation[] = [
  flipBit,
  flipBit,
  setByte,
  truncate,
  dropFront,
  deleteRange,
  duplicateRange,
  repeatRange,
  splice,
  splice,
  tamperLength,
  tamperLength,
  tamperDigits,
  insertWord,
  insertWord,
  replaceByWord,
];

function flipBit(input: Uint8Array, { random }: MutationSource): Uint8Array {
  const copy = Uint8Array.from(input);
  const at = random.below(copy.length);
  copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
  return copy;
}

function setByte(input: Uint8Array, { random }: MutationSource): Uint8Array {
  const copy = Uint8Array.from(input);
  copy[random.below(copy.length)] = random.below(256);
  return copy;
}

function truncate(input: Uint8Array, { random }: MutationSource): Uint8Array {
  return input.subarray(0, random.below(input.length + 1));
}

function dropFront(input: Uint8Array, { random }: MutationSource): Uint8Array {
  return input.subarray(random.small(Math.max(1, input.length)));
}

function deleteRange(input: Uint8Array, { random }: MutationSource): Uint8Array {
  const { start, end } = range(input, random);
  return replaceRange(input, { start, end }, new Uint8Array());
}

function duplicateRange(input: Uint8Array, { random }: MutationSource): Uint8Array {
  const { start, end } = range(input, random);
  const at = random.below(input.length + 1);
  return replaceRange(input, { start: at, end: at }, input.subarray(start, end));
}

/** Nesting and lists that are too long. */
function repeatRange(input: Uint8Array, { random, maxBytes }: MutationSource): Uint8Array {
  const { start, end } = range(input, random);
  const part = Buffer.from(input.subarray(start, end));
  const room = Math.max(0, Math.floor((maxBytes - input.length) / Math.max(1, part.length)));
  const times = Math.min(room, random.small(4096));
  return replaceRange(input, { start, end: start }, Buffer.concat(Array<Buffer>(times).fill(part)));
}

/** The front of this input with the back of another. */
function splice(input: Uint8Array, { random, corpus }: MutationSource): Uint8Array {
  const other = random.pick(corpus);
  const { start, end } = range(other, random);
  const at = random.below(input.length + 1);
  const isTail = random.below(2) === 0;
  const to = isTail ? input.length : Math.min(input.length, at + end - start);
  return replaceRange(input, { start: at, end: to }, other.subarray(start, isTail ? other.length : end));
}

/** Overwrites a number of 1 to 4 bytes, either byte order, with an edge, a neighbour of what was there, or what is left. */
function tamperLength(input: Uint8Array, { random }: MutationSource): Uint8Array {
  const width = 1 + random.below(4);
  if (input.length < width) return input;
  const copy = Buffer.from(input);
  const at = random.below(input.length - width + 1);
  const isLittle = random.below(4) === 0;
  const value = isLittle ? copy.readUIntLE(at, width) : copy.readUIntBE(at, width);
  const wanted = random.pick([
    value + 1,
    value - 1,
    value * 2,
    input.length - at - width,
    random.pick(EDGES),
    random.pick(WIDE_EDGES),
  ]);
  const fitting = ((wanted % 256 ** width) + 256 ** width) % 256 ** width;
  if (isLittle) copy.writeUIntLE(fitting, at, width);
  else copy.writeUIntBE(fitting, at, width);
  return copy;
}

/** The same for a number that is written in digits. */
function tamperDigits(input: Uint8Array, { random }: MutationSource): Uint8Array {
  const text = Buffer.from(input).toString('latin1');
  const numbers = [...text.matchAll(/\d+/g)];
  if (numbers.length === 0) return input;
  const found = random.pick(numbers);
  const value = BigInt(found[0].slice(0, 30));
  const wanted = random.pick([
    String(value + 1n),
    String(value - 1n),
    String(value << 32n),
    String(random.pick(EDGES)),
    String(Number.MAX_SAFE_INTEGER + 1),
    `0${value}`,
    `-${value}`,
    `${value}.5`,
    `${value}e9`,
  ]);
  const end = found.index + found[0].length;
  return replaceRange(input, { start: found.index, end }, Buffer.from(wanted));
}

function insertWord(input: Uint8Array, source: MutationSource): Uint8Array {
  const at = source.random.below(input.length + 1);
  return replaceRange(input, { start: at, end: at }, word(source));
}

function replaceByWord(input: Uint8Array, source: MutationSource): Uint8Array {
  return replaceRange(input, range(input, source.random), word(source));
}

function word({ random, dictionary }: MutationSource): Uint8Array {
  if (dictionary.length > 0 && random.below(8) > 0) return random.pick(dictionary);
  return Uint8Array.from({ length: random.small(16) }, () => random.below(256));
}

function range(input: Uint8Array, random: SeededRandom): { readonly start: number; readonly end: number } {
  if (input.length === 0) return { start: 0, end: 0 };
  const start = random.below(input.length);
  return { start, end: Math.min(input.length, start + random.small(input.length)) };
}

function replaceRange(
  input: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
  by: Uint8Array,
): Uint8Array {
  return Buffer.concat([input.subarray(0, start), by, input.subarray(end)]);
}
