import { parseAuditFrames } from '../../../server/audit/audit-frames.ts';
import { auditBatch } from '../../../shared/protocol/audit.ts';
import { FRAME_HEAD_BYTES } from '../../../shared/protocol/audit-frame.ts';
import { testFrames } from '../../kit/audit-batches.ts';
import { EPOCH, FIRST_RECORDS, GAP, wayOfBatch } from '../taken-batch.ts';
import { hexWords, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** What hosts send of their decisions: what is read is a batch as it may come as JSON, of all bytes that came; what is taken is what stands in them, byte for byte. */
export const target: FuzzTarget = {
  seeds: [FIRST_RECORDS, FIRST_RECORDS.slice(1), FIRST_RECORDS.slice(2)].map(testFrames),
  dictionary: [
    ...hexWords(
      '00000000',
      '00000001',
      '00004000',
      '00004001',
      'ffffffff',
      'c328',
      'efbfbd',
      'efbbbf',
      '0000000000000001',
      '0000000000000002',
      '0020000000000000',
      '0000000100000001',
      ...FIRST_RECORDS.map(({ hash }) => hash),
    ),
    ...words('{}', '"', '\\u0000'),
  ],
  maxBytes: 8192,
  check(input) {
    const records = parseAuditFrames(input);
    const batch = { epoch: EPOCH, gap: GAP, records };
    requireSame(auditBatch.parse(batch), batch, 'a batch as JSON');
    const texts = textsOf(input);
    requireSame(texts.length, records.length, 'how many there are');
    return wayOfBatch(batch, ({ sequence, text }) => {
      const raw = texts[sequence - (records[0]?.sequence ?? 0)];
      requireThat(raw?.equals(Buffer.from(text)) === true, `another text of record ${sequence}`);
    });
  },
};

/** The bytes of each text, by the lengths alone. */
function textsOf(input: Buffer): readonly Buffer[] {
  const texts: Buffer[] = [];
  let at = 0;
  while (at < input.length) {
    const textAt = at + FRAME_HEAD_BYTES;
    at = textAt + input.readUInt32BE(at);
    texts.push(Buffer.from(input.subarray(textAt, at)));
  }
  requireSame(at, input.length, 'the end of the last frame');
  return texts;
}
