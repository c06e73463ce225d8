import { allocateNative } from './libc.ts';

/** A register: r0 is what a call returns, r1 to r5 its arguments, which it destroys; r6 to r9 live; r10 is the end of the stack, 512 bytes. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** One line of a program: an instruction, with the label that it jumps to, or a label that the next instruction bears. */
export type Line =
  | {
      readonly code: number;
      readonly to: Register;
      readonly from: number;
      readonly offset: number;
      readonly value: number;
      readonly jump?: string;
      /** The second half of an instruction that takes two places. */
      readonly next?: number;
    }
  | { readonly label: string };

/** Bytes that are loaded or stored at once. */
export type Size = 1 | 2 | 4 | 8;

const INSTRUCTION_BYTES = 8;
const MAX_OFFSET = 0x7fff;

const SIZES: Readonly<Record<Size, number>> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };
const OPERATIONS = {
  '+=': 0x00,
  '*=': 0x20,
  '&=': 0x50,
  '<<=': 0x60,
  '>>=': 0x70,
  '^=': 0xa0,
  '=': 0xb0,
} as const;
/** Comparisons are of unsigned numbers. */
const COMPARISONS = { '==': 0x10, '>': 0x20, '>=': 0x30, '!=': 0x50, '<': 0xa0, '<=': 0xb0 } as const;

/** The register as the operand, where a number could stand as well. */
export interface Operand {
  readonly register: Register;
}

/** An operand that is a register. */
export function register(number: Register): Operand {
  return { register: number };
}

/** `to = *(from + offset)` */
export function load(size: Size, to: Register, from: Register, offset: number): Line {
  return { code: 0x61 | SIZES[size], to, from, offset, value: 0 };
}

/** `*(to + offset) = from` */
export function store(size: Size, to: Register, offset: number, from: Register): Line {
  return { code: 0x63 | SIZES[size], to, from, offset, value: 0 };
}

/** `to operation= operand`, in 64 bits. A number is signed, of 32 bits. */
export function compute(to: Register, operation: keyof typeof OPERATIONS, operand: Operand | number): Line {
  const code = OPERATIONS[operation] | 0x07;
  return withOperand(code, { to, operand });
}

/** `to = value`, of 64 bits. */
export function loadConstant(to: Register, value: bigint): Line {
  const low = Number(BigInt.asIntN(32, value));
  return { code: 0x18, to, from: 0, offset: 0, value: low, next: Number(BigInt.asIntN(32, value >> 32n)) };
}

/** `*(to + offset) = value` */
export function storeNumber(size: Size, to: Register, offset: number, value: number): Line {
  return { code: 0x62 | SIZES[size], to, from: 0, offset, value };
}

/** `to = a map`, as helpers take it. */
export function loadMap(to: Register, mapFd: number): Line {
  return { code: 0x18, to, from: 1, offset: 0, value: mapFd, next: 0 };
}

/** `to = the address of the value of an array map, plus offset`. */
export function loadMapValue(to: Register, mapFd: number, offset: number): Line {
  return { code: 0x18, to, from: 2, offset: 0, value: mapFd, next: offset };
}

/** Goes on at the label. */
export function jump(label: string): Line {
  return { code: 0x05, to: 0, from: 0, offset: 0, value: 0, jump: label };
}

/** Goes on at the label where the comparison is true. */
export function jumpIf(
  left: Register,
  comparison: keyof typeof COMPARISONS,
  right: Operand | number,
  label: string,
): Line {
  return { ...withOperand(COMPARISONS[comparison] | 0x05, { to: left, operand: right }), jump: label };
}

/** Calls one of the kernel's numbered helpers (linux/bpf.h: enum bpf_func_id). */
export function callHelper(number: number): Line {
  return { code: 0x85, to: 0, from: 0, offset: 0, value: number };
}

/** Calls a function of the kernel by its number among the kernel's types. */
export function callKernel(btfId: number): Line {
  return { code: 0x85, to: 0, from: 2, offset: 0, value: btfId };
}

/** Ends the program with r0. */
export function exit(): Line {
  return { code: 0x95, to: 0, from: 0, offset: 0, value: 0 };
}

/**
 * The bytes of a program (struct bpf_insn). Throws `RangeError` for a label that is not there, is there twice, or is too far away.
 *
 *     code u8 | to 4 bits, from 4 bits | offset i16 | value i32
 */
export function assemble(lines: readonly Line[]): Buffer<ArrayBuffer> {
  const { labels, length } = placeLabels(lines);
  const bytes = allocateNative(length * INSTRUCTION_BYTES);
  let at = 0;
  for (const line of lines) {
    if ('label' in line) continue;
    const offset = line.jump === undefined ? line.offset : distance(labels, line.jump, at);
    write(bytes, at++, { ...line, offset });
    if (line.next !== undefined) write(bytes, at++, { code: 0, to: 0, from: 0, offset: 0, value: line.next });
  }
  return bytes;
}

function withOperand(
  code: number,
  { to, operand }: { readonly to: Register; readonly operand: Operand | number },
): Exclude<Line, { label: string }> {
  if (typeof operand === 'number') return { code, to, from: 0, offset: 0, value: operand };
  return { code: code | 0x08, to, from: operand.register, offset: 0, value: 0 };
}

function placeLabels(lines: readonly Line[]): {
  readonly labels: ReadonlyMap<string, number>;
  readonly length: number;
} {
  const labels = new Map<string, number>();
  let length = 0;
  for (const line of lines) {
    if (!('label' in line)) {
      length += line.next === undefined ? 1 : 2;
      continue;
    }
    if (labels.has(line.label)) throw new RangeError(`The label ${line.label} stands twice`);
    labels.set(line.label, length);
  }
  return { labels, length };
}

/** Jumps count from the instruction behind them. */
function distance(labels: ReadonlyMap<string, number>, label: string, at: number): number {
  const target = labels.get(label);
  if (target === undefined) throw new RangeError(`The label ${label} is missing`);
  const offset = target - at - 1;
  if (Math.abs(offset) > MAX_OFFSET) throw new RangeError(`The label ${label} is too far away`);
  return offset;
}

function write(bytes: Buffer, index: number, line: Exclude<Line, { label: string }>): void {
  const at = index * INSTRUCTION_BYTES;
  bytes.writeUInt8(line.code, at);
  bytes.writeUInt8(line.to | (line.from << 4), at + 1);
  bytes.writeInt16LE(line.offset, at + 2);
  bytes.writeInt32LE(line.value, at + 4);
}
