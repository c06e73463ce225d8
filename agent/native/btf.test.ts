import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import { queryBtf } from './btf.ts';
import { buildSmallBtf, buildUsualBtf, FUNC, STRUCT } from './fixtures/small-btf.ts';

const query = { structs: { outer: ['first', 'inner', 'deep'] }, functions: ['outer_new', 'int'] };

function refusalOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof PicketError) return `${error.code} ${error.reason}`;
    throw error;
  }
  return 'none';
}

describe('queryBtf()', () => {
  test('numbers structures and functions as the kernel does, passing over other types of the same name', () => {
    const types = queryBtf(buildUsualBtf(), query);
    expect([types.id('outer'), types.id('outer_new'), types.id('int')]).toEqual([4, 5, 6]);
  });

  test('finds members, also in structures and unions without a name', () => {
    const types = queryBtf(buildUsualBtf(), query);
    expect(['first', 'inner', 'deep', 'wide'].map((member) => types.offset('outer', member))).toEqual([
      0, 8, 20, 16,
    ]);
  });

  test('has nothing for what is missing, for fields of bits, and for names that stand for two things', () => {
    const types = queryBtf(buildUsualBtf(), { structs: { outer: ['bits'] }, functions: ['gone'] });
    expect(refusalOf(() => types.offset('outer', 'bits'))).toBe('unavailable btf');
    expect(refusalOf(() => types.offset('outer', 'gone'))).toBe('unavailable btf');
    expect(refusalOf(() => types.id('gone'))).toBe('unavailable btf');
    // It was not asked for.
    expect(refusalOf(() => types.id('outer_new'))).toBe('unavailable btf');
    const twice = buildSmallBtf([
      { kind: STRUCT, name: 'outer', size: 4 },
      { kind: STRUCT, name: 'outer', size: 4 },
    ]);
    expect(refusalOf(() => queryBtf(twice, query).id('outer'))).toBe('unavailable btf');
  });

  test('ends with a structure that is within itself', () => {
    const circle = buildSmallBtf([
      {
        kind: STRUCT,
        name: 'outer',
        size: 4,
        members: [
          ['', 2, 0],
          ['', 2, 0],
          ['', 99, 0],
        ],
      },
      {
        kind: STRUCT,
        size: 4,
        members: [
          ['', 1, 0],
          ['', 2, 0],
        ],
      },
    ]);
    expect(refusalOf(() => queryBtf(circle, query).offset('outer', 'first'))).toBe('unavailable btf');
  });

  test('refuses every text that is cut short, and types of a kind that is not known', () => {
    const whole = buildUsualBtf();
    for (let length = 0; length < whole.length; length++)
      expect(refusalOf(() => queryBtf(whole.subarray(0, length), query))).toBe('invalid_argument btf');
    expect(refusalOf(() => queryBtf(buildSmallBtf([{ kind: 20, name: 'outer' }]), query))).toBe(
      'invalid_argument btf',
    );
    const long = buildSmallBtf([{ kind: FUNC, name: 'int' }]);
    // The type says that it has more members than there are bytes.
    long.writeUInt32LE(STRUCT * 2 ** 24 + 1, 24 + 4);
    expect(refusalOf(() => queryBtf(long, query))).toBe('invalid_argument btf');
  });

  test('reads the types of this kernel', () => {
    const types = queryBtf(readFileSync('/sys/kernel/btf/vmlinux'), {
      structs: { list_head: ['next', 'prev'], task_struct: ['pid', 'tgid'] },
      functions: ['bpf_iter_task_file'],
    });
    expect([types.offset('list_head', 'next'), types.offset('list_head', 'prev')]).toEqual([0, 8]);
    expect(types.offset('task_struct', 'tgid') - types.offset('task_struct', 'pid')).toBe(4);
    expect(types.id('bpf_iter_task_file')).toBeGreaterThan(0);
  });
});
