import { fromWorker } from '../../../agent/workers/worker-messages.ts';
import { testAccessRecord, testFrames, testSpool } from '../../kit/audit-batches.ts';
import { JSON_WORDS } from '../json-words.ts';
import { requireSame, words, type FuzzTarget } from '../target.ts';

const REPORT = {
  connections: 1,
  turnedAway: { unproven: 0, idle: 0, full: 0 },
  descriptorsRefused: 0,
  descriptorsOpen: 9,
  residentBytes: 1,
  cpuSeconds: 0.5,
  policySequence: 1,
  spool: {
    epoch: '0'.repeat(32),
    lastSequence: 1,
    depth: 1,
    bytes: 64,
    refused: 0,
    refusing: 'disk_full',
    isHeldBack: true,
  },
  denials: [{ record: testAccessRecord(), uid: 1, pid: null }],
  metrics: [
    {
      name: 'a_total',
      help: 'a',
      type: 'counter',
      aggregator: 'sum',
      values: [{ value: 1, labels: { le: '+Inf' }, metricName: 'a_bucket' }],
    },
  ],
};

/** What a worker says to its agent: what is taken is taken again as it was understood. */
export const target: FuzzTarget = {
  seeds: words(
    JSON.stringify({ kind: 'ready' }),
    JSON.stringify({ kind: 'report', id: 1, report: REPORT }),
    JSON.stringify({
      kind: 'ship',
      id: 2,
      batch: {
        epoch: '0'.repeat(32),
        gap: { after: 1, hash: '0'.repeat(64) },
        frames: testFrames(testSpool([JSON.stringify(testAccessRecord())])).toString('base64'),
      },
    }),
  ),
  dictionary: JSON_WORDS,
  maxBytes: 4096,
  check(bytes) {
    let message: unknown;
    try {
      message = JSON.parse(bytes.toString());
    } catch {
      return 'no JSON';
    }
    const parsed = fromWorker.safeParse(message);
    if (!parsed.success) return `refused ${parsed.error.issues[0]?.code ?? ''}`;
    const again = fromWorker.parse(JSON.parse(JSON.stringify(parsed.data)));
    requireSame(again, parsed.data, 'a message taken again');
    return parsed.data.kind;
  },
};
