import { queryBtf } from '../../../agent/native/btf.ts';
import { buildUsualBtf } from '../../../agent/native/fixtures/small-btf.ts';
import { attempt, hexWords, requireThat, type FuzzTarget } from '../target.ts';

const QUERY = { structs: { outer: ['first', 'inner', 'deep', 'wide'] }, functions: ['outer_new', 'int'] };

/** What the kernel says of its own types: numbers of types that are there, and offsets that are whole bytes. */
export const target: FuzzTarget = {
  seeds: [buildUsualBtf()],
  dictionary: hexWords(
    '9feb01',
    '18000000',
    '04000004',
    '01000005',
    '0000000c',
    '00000084',
    'ffff0004',
    'ffffffff',
    '00000000',
    '01000000',
  ),
  maxBytes: 1024,
  check(input) {
    const found = attempt(() => {
      const types = queryBtf(input, QUERY);
      return {
        ids: QUERY.functions.concat('outer').map((name) => attempt(() => types.id(name)).value),
        offsets: QUERY.structs.outer.map((member) => attempt(() => types.offset('outer', member)).value),
      };
    }).value;
    if (found === undefined) return 'none';
    for (const id of found.ids)
      requireThat(id === undefined || (id > 0 && id < input.length), 'a type that is none');
    for (const offset of found.offsets)
      requireThat(
        offset === undefined || (Number.isSafeInteger(offset) && offset >= 0),
        'an offset that is none',
      );
    const known = (values: readonly unknown[]): number =>
      values.filter((value) => value !== undefined).length;
    return `${known(found.ids)} ${known(found.offsets)}`;
  },
};
