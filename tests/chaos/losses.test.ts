import { expect, test } from 'bun:test';
import type { AccessRecordShown } from '../kit/access-records.ts';
import { explainLosses } from './losses.ts';

const AT_MS = Date.parse('2026-01-01T00:00:10.000Z');
const LOST = { path: '/single/a', port: 40_001, begunMs: AT_MS, endedMs: AT_MS + 20, answer: 'reset' };

const NOTHING = { happenings: [], denials: [], logs: {} };

function denial(ts: string, path: string | null): AccessRecordShown {
  return {
    decision_id: 'id',
    ts,
    direction: path === null ? 'outbound' : 'inbound',
    caller_spiffe_id: null,
    target_spiffe_id: null,
    source: '10.0.0.3:40001',
    destination: '10.0.0.2:80',
    protocol: 'tcp',
    method: null,
    path,
    decision: 'deny',
    reason: 'target_unreachable',
    message: 'gone',
    policy_version: null,
    latency_us: 0,
    node_id: 'spiffe://example.org/node' as AccessRecordShown['node_id'],
    sequence: 1,
  };
}

test('explainLosses() names what happened within the seconds before, or else what happened last', () => {
  const happenings = [
    { name: 'a restart', fromMs: AT_MS - 9000, untilMs: AT_MS - 8000 },
    { name: 'an upgrade', fromMs: AT_MS - 5000, untilMs: AT_MS - 1000 },
    { name: 'a policy', fromMs: AT_MS + 10, untilMs: AT_MS + 700 },
    { name: 'too late', fromMs: AT_MS + 30, untilMs: AT_MS + 40 },
  ];
  const behind = (known: typeof happenings): readonly string[] =>
    explainLosses([LOST], { ...NOTHING, happenings: known }).flatMap((loss) => loss.behind);
  expect(behind(happenings)).toEqual(['an upgrade, from -5000 to -1000 ms', 'a policy, from 10 to 700 ms']);
  expect(behind(happenings.slice(0, 1))).toEqual(['a restart, from -9000 to -8000 ms']);
  expect(behind([])).toEqual([]);
});

test('explainLosses() tells what was recorded and logged at the time', () => {
  const [loss] = explainLosses([LOST], {
    ...NOTHING,
    denials: [
      denial('2026-01-01T00:00:09.900Z', null),
      denial('2026-01-01T00:00:10.010Z', null),
      denial('2026-01-01T00:00:10.010Z', '/flip/b'),
    ],
    logs: {
      store:
        'begins\n{"ts":"2026-01-01T00:00:09.500Z","event":"b"}\na crash\n{"ts":"2026-01-01T00:00:11.000Z","event":"c"}\n',
      desk: [
        '{"ts":"2025-12-31T23:59:45.000Z","event":"svid_issued"}',
        '{"ts":"2026-01-01T00:00:08.000Z","event":"old"}',
        '{"ts":"2026-01-01T00:00:09.400Z","event":"a"}',
      ].join('\n'),
    },
  });
  expect(loss?.recorded).toEqual([
    '2026-01-01T00:00:10.010Z outbound of 10.0.0.3:40001: target_unreachable: gone',
  ]);
  expect(loss?.logged).toEqual([
    'desk: {"ts":"2025-12-31T23:59:45.000Z","event":"svid_issued"}',
    'desk: {"ts":"2026-01-01T00:00:09.400Z","event":"a"}',
    'store: {"ts":"2026-01-01T00:00:09.500Z","event":"b"}',
    'store: a crash',
  ]);
  expect(loss?.begun).toBe('2026-01-01T00:00:10.000Z');
});
