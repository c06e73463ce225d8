import { describe, expect, test } from 'bun:test';
import { testAccessRecord, testSpool } from '../../tests/kit/audit-batches.ts';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { checkBatch, findEndOfGap, nextHash, SPOOL_START, type SpoolPosition } from './audit-chain.ts';

const epoch = '0'.repeat(32);
const texts = Array.from({ length: 6 }, (_, i) =>
  JSON.stringify(testAccessRecord({ decision_id: `d-${i}` })),
);
const spool = testSpool(texts);
const at = (sequence: number): SpoolPosition => ({ sequence, hash: spool[sequence - 1]!.hash });

describe('checkBatch()', () => {
  test('gives what is not stored yet, for every cut of the spool', () => {
    for (let from = 0; from < spool.length; from += 1)
      for (let to = from + 1; to <= spool.length; to += 1)
        for (let stored = 0; stored <= spool.length; stored += 1) {
          const position = stored === 0 ? SPOOL_START : at(stored);
          const checked = checkBatch({ epoch, records: spool.slice(from, to) }, position);
          const expected = from > stored ? [] : spool.slice(Math.max(from, stored), Math.max(to, stored));
          expect(checked.map(({ sequence, hash, text }) => ({ sequence, hash, record: text }))).toEqual(
            expected,
          );
        }
  });

  test('refuses every change of one character', () => {
    const first = spool[0]!;
    for (let i = 0; i < first.record.length; i += 7) {
      const changed = first.record[i] === 'x' ? 'y' : 'x';
      const record = first.record.slice(0, i) + changed + first.record.slice(i + 1);
      expect(reasonOf(() => checkBatch({ epoch, records: [{ ...first, record }] }, SPOOL_START))).toBe(
        'audit_chain_broken',
      );
    }
  });

  test('refuses a spool that was rewritten behind what is stored', () => {
    const other = testSpool(texts.with(0, JSON.stringify(testAccessRecord({ message: 'changed' }))));
    expect(reasonOf(() => checkBatch({ epoch, records: other }, at(3)))).toBe('audit_chain_broken');
    expect(reasonOf(() => checkBatch({ epoch, records: other.slice(3) }, at(3)))).toBe('audit_chain_broken');
  });

  test('refuses numbers that do not follow each other', () => {
    const [a, b, c] = [spool[0]!, spool[1]!, spool[2]!];
    for (const records of [
      [a, c],
      [b, a],
      [a, a],
      [{ ...a, sequence: 0 }, b],
    ])
      expect(reasonOf(() => checkBatch({ epoch, records }, SPOOL_START))).toBe('audit_sequence_invalid');
  });

  test('refuses a text that is no record, however well it is chained', () => {
    const bad = [
      '',
      'x',
      'null',
      '{}',
      JSON.stringify({ ...testAccessRecord(), decision: 'maybe' }),
      JSON.stringify({ ...testAccessRecord(), ts: 'yesterday' }),
      JSON.stringify({ ...testAccessRecord(), caller_spiffe_id: 'spiffe://Bad/ä' }),
      JSON.stringify(testAccessRecord({ message: 'ä'.repeat(9000) })),
    ];
    for (const text of bad)
      expect(reasonOf(() => checkBatch({ epoch, records: testSpool([text]) }, SPOOL_START))).toBe(
        'audit_record_invalid',
      );
  });

  test('behind a gap the batch continues the hash that the agent tells of', () => {
    const batch = { epoch, gap: { after: 1, hash: at(3).hash }, records: spool.slice(3) };
    const end = findEndOfGap(batch, at(1))!;
    expect(checkBatch(batch, end).map(({ sequence }) => sequence)).toEqual([4, 5, 6]);
    const wrong = { ...batch, gap: { after: 1, hash: at(2).hash } };
    expect(reasonOf(() => checkBatch(wrong, findEndOfGap(wrong, at(1))!))).toBe('audit_chain_broken');
  });

  test('nextHash() is SHA-256 over thirty-two bytes and the text', () => {
    // printf '%064d' 0 | xxd -r -p | cat - <(printf 'a') | sha256sum
    expect(nextHash(SPOOL_START.hash, 'a')).toBe(
      new Bun.CryptoHasher('sha256').update(new Uint8Array(32)).update('a').digest('hex'),
    );
  });
});

describe('findEndOfGap()', () => {
  const records = spool.slice(3);
  const gapAfter = (after: number) => ({ epoch, gap: { after, hash: at(3).hash }, records });

  test('is the position before the batch, when the gap begins at what is stored', () => {
    for (const after of [0, 1, 2]) {
      const stored = after === 0 ? SPOOL_START : at(after);
      expect(findEndOfGap(gapAfter(after), stored)).toEqual(at(3));
    }
  });

  test('is nothing without a gap, for one that begins elsewhere, and for one that is closed', () => {
    expect(findEndOfGap({ epoch, records }, at(1))).toBeUndefined();
    expect(findEndOfGap(gapAfter(0), at(1))).toBeUndefined();
    expect(findEndOfGap(gapAfter(2), at(1))).toBeUndefined();
    expect(findEndOfGap(gapAfter(3), at(3))).toBeUndefined();
    expect(findEndOfGap(gapAfter(5), at(5))).toBeUndefined();
  });
});
