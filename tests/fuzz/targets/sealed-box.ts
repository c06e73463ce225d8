import { SealedBox, SealError } from '../../../shared/runtime/sealed-box.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { requireThat, words, type FuzzTarget } from '../target.ts';

const BOX = new SealedBox({ magic: 'PKS1', context: 'picket-sealed-1' });
const KEY = Buffer.alloc(32, 7);
const REAL = fromBase64(SEEDS.sealedBox);

/** Sealed files: only what was sealed opens, with every bit of it, under its own name. */
export const target: FuzzTarget = {
  seeds: REAL,
  dictionary: words('PKS1', 'PKK1', 'name'),
  maxBytes: 512,
  check: (input) => ['name', 'other'].map((name) => wayOf(input, name)).join(' '),
};

function wayOf(input: Buffer, name: string): string {
  try {
    BOX.open(KEY, name, input);
  } catch (error) {
    if (error instanceof SealError) return error.failure;
    throw error;
  }
  requireThat(name === 'name' && REAL.some((real) => input.equals(real)), 'what nobody sealed was opened');
  return 'opened';
}
