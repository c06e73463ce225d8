import {
  checkBatch,
  findEndOfGap,
  nextHash,
  SPOOL_START,
  type SpoolPosition,
} from '../../../server/audit/audit-chain.ts';
import { parseJson, validate } from '../../../server/http/body.ts';
import { auditBatch, type AuditBatch } from '../../../shared/protocol/audit.ts';
import { testAccessRecord } from '../../kit/audit-batches.ts';
import { JSON_WORDS } from '../json-words.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

const EPOCH = '0123456789abcdef0123456789abcdef';

/** Records that continue `from`, as a spool sends them. */
function batchAfter(from: SpoolPosition, count: number): AuditBatch {
  let { sequence, hash } = from;
  const records = Array.from({ length: count }, () => {
    sequence += 1;
    const record = JSON.stringify(testAccessRecord());
    hash = nextHash(hash, record);
    return { sequence, hash, record };
  });
  return { epoch: EPOCH, records };
}

const FIRST = batchAfter(SPOOL_START, 3);
const [, SECOND] = FIRST.records;
const STORED: readonly SpoolPosition[] = [
  SPOOL_START,
  ...FIRST.records.map(({ sequence, hash }) => ({ sequence, hash })),
];
const GAP = { after: 1, hash: SECOND?.hash ?? '' };

/** What hosts send of their decisions: what is taken continues what is stored, in numbers and hashes, text by text. */
export const target: FuzzTarget = {
  seeds: words(
    ...[
      FIRST,
      { ...FIRST, records: FIRST.records.slice(1) },
      { ...FIRST, records: FIRST.records.slice(2), gap: GAP },
    ].map((batch) => JSON.stringify(batch)),
  ),
  dictionary: [
    ...JSON_WORDS,
    ...words(
      '"sequence":',
      '"record":"',
      '"hash":"',
      '"gap":{"after":1,',
      '0',
      '1',
      '2',
      ...FIRST.records.map(({ hash }) => hash),
    ),
  ],
  maxBytes: 8192,
  check(input) {
    const batch = validate(auditBatch, parseJson(input), 'body');
    return STORED.map((stored) => wayOf(batch, stored)).join(' | ');
  },
};

function wayOf(batch: AuditBatch, stored: SpoolPosition): string {
  const { value: taken, refusal } = attempt(() => checkBatch(batch, stored));
  if (taken === undefined) return outcomeOfRefusal(refusal);
  let { sequence, hash } = stored;
  for (const record of taken) {
    requireSame(record.sequence, sequence + 1, 'the next number');
    requireSame(record.hash, nextHash(hash, record.text), 'the next hash');
    ({ sequence, hash } = record);
  }
  const end = findEndOfGap(batch, stored);
  requireThat(
    end === undefined || (taken.length === 0 && end.sequence > stored.sequence),
    'a gap where there is none',
  );
  return `${taken.length} taken, gap ${end !== undefined}`;
}
