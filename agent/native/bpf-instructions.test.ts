import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { requireRoot } from '../../tests/kit/netns.ts';
import {
  assemble,
  compute,
  exit,
  jump,
  jumpIf,
  load,
  loadConstant,
  loadMapValue,
  register,
  store,
  type Line,
} from './bpf-instructions.ts';
import {
  BPF_F_SLEEPABLE,
  BPF_PROG_TYPE_SYSCALL,
  createSharedArea,
  loadProgram,
  runProgram,
  type SharedArea,
} from './bpf.ts';
import { closeDescriptor } from './dial.ts';

const RETURN = [compute(0, '=', 0), exit()];

describe('assemble()', () => {
  test('writes instructions as the kernel documents them', () => {
    const program = assemble([
      load(4, 1, 6, 24),
      store(8, 10, -16, 7),
      compute(2, '+=', -16),
      compute(3, '=', register(9)),
      loadConstant(4, 0x1_ffff_fffen),
      loadMapValue(5, 7, 8),
      exit(),
    ]);
    expect(program.toString('hex').match(/.{16}/g)).toEqual([
      '6161180000000000',
      '7b7af0ff00000000',
      '07020000f0ffffff',
      'bf93000000000000',
      '18040000feffffff',
      '0000000001000000',
      '1825000007000000',
      '0000000008000000',
      '9500000000000000',
    ]);
  });

  test('jumps over both halves of a long instruction, forward and back', () => {
    const program = assemble([
      { label: 'start' },
      jumpIf(1, '==', 0, 'end'),
      loadConstant(2, 1n),
      jump('start'),
      { label: 'end' },
      exit(),
    ]);
    const offsets = [0, 3].map((index) => program.readInt16LE(index * 8 + 2));
    expect(offsets).toEqual([3, -4]);
  });

  test('refuses labels that are missing, stand twice, or are too far away', () => {
    expect(() => assemble([jump('nowhere')])).toThrow(RangeError);
    expect(() => assemble([{ label: 'a' }, { label: 'a' }, exit()])).toThrow(RangeError);
    const far: Line[] = Array.from({ length: 0x8000 }, () => exit());
    expect(() => assemble([jump('far'), ...far, { label: 'far' }])).toThrow(RangeError);
  });
});

describe('a program in the kernel', () => {
  let area: SharedArea;
  beforeAll(() => {
    requireRoot('programs in the kernel');
    area = createSharedArea(64, 'picket_test');
  });
  afterAll(() => area.release());

  /** What a program leaves in the second word, given the first. */
  function outcomeOf(given: bigint, lines: readonly Line[]): bigint {
    const kind = { name: 'picket_test', type: BPF_PROG_TYPE_SYSCALL, flags: BPF_F_SLEEPABLE };
    const read = [loadMapValue(6, area.mapFd, 0), load(8, 1, 6, 0)];
    const fd = loadProgram(assemble([...read, ...lines, store(8, 6, 8, 1), ...RETURN]), kind);
    try {
      area.bytes.writeBigUInt64LE(given, 0);
      runProgram(fd);
      return area.bytes.readBigUInt64LE(8);
    } finally {
      closeDescriptor(fd);
    }
  }

  test.each([
    ['+=', 5, 12n],
    ['*=', 5, 35n],
    ['&=', 5, 5n],
    ['^=', 5, 2n],
    ['<<=', 5, 224n],
    ['>>=', 1, 3n],
    ['=', 5, 5n],
  ] as const)('computes %s, with a number and with a register', (operation, operand, expected) => {
    expect(outcomeOf(7n, [compute(1, operation, operand)])).toBe(expected);
    expect(outcomeOf(7n, [compute(2, '=', operand), compute(1, operation, register(2))])).toBe(expected);
  });

  test.each([
    ['==', [false, true, false]],
    ['!=', [true, false, true]],
    ['<', [true, false, false]],
    ['<=', [true, true, false]],
    ['>', [false, false, true]],
    ['>=', [false, true, true]],
  ] as const)('compares unsigned: %s', (comparison, expected) => {
    const compare = (right: Parameters<typeof jumpIf>[2]): readonly Line[] => [
      compute(3, '=', 7),
      jumpIf(1, comparison, right, 'true'),
      compute(1, '=', 0),
      jump('end'),
      { label: 'true' },
      compute(1, '=', 1),
      { label: 'end' },
    ];
    for (const right of [7, register(3)])
      expect([6n, 7n, 2n ** 64n - 1n].map((given) => outcomeOf(given, compare(right)) === 1n)).toEqual([
        ...expected,
      ]);
  });

  test('holds constants of 64 bits and stores of every size', () => {
    const constant = 0x8899_aabb_ccdd_eeffn;
    expect(outcomeOf(0n, [loadConstant(1, constant)])).toBe(constant);
    area.bytes.fill(0);
    outcomeOf(0n, [
      loadConstant(1, constant),
      store(1, 6, 16, 1),
      store(2, 6, 24, 1),
      store(4, 6, 32, 1),
      load(1, 2, 6, 24),
      store(8, 6, 40, 2),
      load(2, 2, 6, 24),
      store(8, 6, 48, 2),
    ]);
    const words = [16, 24, 32, 40, 48].map((at) => area.bytes.readBigUInt64LE(at));
    expect(words).toEqual([0xffn, 0xeeffn, 0xccddeeffn, 0xffn, 0xeeffn]);
  });

  test('is refused by loadProgram() with the words of the verifier', () => {
    const kind = { name: 'picket_test', type: BPF_PROG_TYPE_SYSCALL, flags: BPF_F_SLEEPABLE };
    expect(() => loadProgram(assemble([exit()]), kind)).toThrow('R0 !read_ok');
  });
});
