import { DerReader } from '../../../shared/wire/der-reader.ts';
import { DER_TAG } from '../../../shared/wire/der-tag.ts';
import {
  derBoolean,
  derElement,
  derInteger,
  derObjectIdentifier,
  derTime,
} from '../../../shared/wire/der-writer.ts';
import { fromBase64, SEEDS } from '../seeds.ts';
import { attempt, hexWords, outcomeOfRefusal, requireSame, type FuzzTarget } from '../target.ts';

const CONSTRUCTED = 0x20;

/** DER: what is read must be written again byte for byte, since there is only one spelling of a value. */
export const target: FuzzTarget = {
  seeds: fromBase64(...SEEDS.chain, ...SEEDS.csrs),
  dictionary: hexWords(
    '3000',
    '3080',
    '30820100',
    '0500',
    '0101ff',
    '020100',
    '02020080',
    '0202ff80',
    '030107',
    '03020780',
    '06032a0304',
    '0603550480',
    '170d3236313132343130303030305a',
    '180f32303530303130313030303030305a',
    'a003020102',
    '1f',
    '8400000000',
  ),
  maxBytes: 8192,
  check: (input) => walk(new DerReader(input)).slice(0, 200),
};

function walk(reader: DerReader, depth = 0): string {
  const tags: string[] = [];
  while (reader.nextTag() !== undefined) {
    const { tag, content, encoded } = reader.any();
    requireSame(Buffer.from(derElement(tag, content)), Buffer.from(encoded), 'an element written again');
    const isConstructed = (tag & CONSTRUCTED) !== 0;
    tags.push(
      isConstructed
        ? `${tag}(${walk(new DerReader(content, depth + 1), depth + 1)})`
        : readPrimitive(tag, encoded),
    );
  }
  reader.requireEnd();
  return tags.join(' ');
}

const WRITE: Readonly<Record<number, (reader: DerReader) => Uint8Array>> = {
  [DER_TAG.integer]: (reader) => derInteger(reader.integer()),
  [DER_TAG.boolean]: (reader) => derBoolean(reader.boolean()),
  [DER_TAG.objectIdentifier]: (reader) => derObjectIdentifier(reader.objectIdentifier()),
  [DER_TAG.utcTime]: (reader) => derTime(reader.timeMs()),
  [DER_TAG.bitString]: (reader) => {
    const { bytes, unusedBits } = reader.bitString();
    return derElement(DER_TAG.bitString, Uint8Array.of(unusedBits), bytes);
  },
};

function readPrimitive(tag: number, encoded: Uint8Array): string {
  const write = WRITE[tag];
  if (write === undefined) return `${tag}`;
  const written = attempt(() => write(new DerReader(encoded)));
  if (written.refusal !== undefined) return outcomeOfRefusal(written.refusal);
  requireSame(Buffer.from(written.value), Buffer.from(encoded), `a value of type ${tag} written again`);
  return `${tag}`;
}
