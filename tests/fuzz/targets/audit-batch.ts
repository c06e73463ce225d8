import { parseJson, validate } from '../../../server/http/body.ts';
import { auditBatch } from '../../../shared/protocol/audit.ts';
import { JSON_WORDS } from '../json-words.ts';
import { EPOCH, FIRST_RECORDS, GAP, wayOfBatch } from '../taken-batch.ts';
import { words, type FuzzTarget } from '../target.ts';

/** What hosts of before send of their decisions: what is taken continues what is stored, in numbers and hashes, text by text. */
export const target: FuzzTarget = {
  seeds: words(
    ...[
      { epoch: EPOCH, records: FIRST_RECORDS },
      { epoch: EPOCH, records: FIRST_RECORDS.slice(1) },
      { epoch: EPOCH, records: FIRST_RECORDS.slice(2), gap: GAP },
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
      ...FIRST_RECORDS.map(({ hash }) => hash),
    ),
  ],
  maxBytes: 8192,
  check: (input) => wayOfBatch(validate(auditBatch, parseJson(input), 'body')),
};
