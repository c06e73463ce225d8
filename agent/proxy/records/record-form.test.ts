import { describe, expect, test } from 'bun:test';
import type { DecisionHttpRequest, Verdict } from '../../../shared/policy/decision.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { encodeRecord } from '../../audit/spool-frame.ts';
import { buildRecord } from './access-record.ts';
import { verdictOf } from '../fixtures/judge-rig.ts';
import type { Encounter } from '../judge/judge.ts';
import type { DecidedRecord } from './proxy-observer.ts';
import { RecordForms } from './record-form.ts';
import type { RecordedQueries } from './recorded-path.ts';

const ENCOUNTER: Encounter = {
  direction: 'inbound',
  caller: {
    spiffeId: parseSpiffeId('spiffe://example.org/web'),
    address: 'fd09::1',
    port: 40_000,
    certificateNotAfterMs: 1,
  },
  target: { spiffeId: parseSpiffeId('spiffe://example.org/invoices'), address: '10.0.0.2', port: 80 },
  process: null,
};
const AUDITED: Verdict = {
  ...verdictOf('policy_deny'),
  isAllowed: true,
  message: 'no "rule", or: "method":"","path":"",',
  wouldDeny: { rules: ['a"b', '"direction":'] },
};
const counted: DecidedRecord[] = [];
const formsWith = (queries: RecordedQueries): RecordForms =>
  new RecordForms({
    observer: {
      decided: () => undefined,
      counterOf: (kind) => (latencyUs) => void counted.push({ ...kind, latency_us: latencyUs }),
    },
    queries,
  });
const forms = formsWith('names');

const requestFor = (method: string, path: string): DecisionHttpRequest => ({
  method,
  path,
  host: 'shop',
  headers: {},
});

describe('RecordForm.textOf()', () => {
  const requests = [
    requestFor('GET', '/'),
    requestFor('M-SEARCH', '/a?b="c"&d=\\e'),
    requestFor('GET', '/é€𝄞/\u0001\u2028'),
    requestFor('GET', `/${'x'.repeat(5000)}`),
    requestFor('GET', `/${'€'.repeat(9000)}`),
    requestFor('GET', '/a?token=secret&b'),
    requestFor('GET', `/a?token=${'s'.repeat(5000)}`),
  ];
  const asked = requests.flatMap((http) =>
    (['names', 'full', 'none'] as const).map((queries) => [http, queries] as const),
  );

  test.each(asked)('is the record that is built and encoded as a whole: %#', (http, queries) => {
    const forms = formsWith(queries);
    const ofUser = { ...verdictOf('policy_allow'), userId: 'corp:"alice"' };
    for (const verdict of [verdictOf('policy_allow'), AUDITED, ofUser])
      for (const [nowMs, latencyUs] of [
        [0, 0],
        [1_764_000_000_123, 1.2345],
        [1_764_000_000_123, 2000],
      ] as const) {
        const judgement = {
          decisionId: '9f1b7c52-0c2f-4f0e-8c39-2f6f7a1f5d11',
          verdict: { ...verdict, latencyUs },
        };
        for (const traceId of [undefined, '0af7651916cd43dd8448eb211c80319c']) {
          const built = encodeRecord(buildRecord(ENCOUNTER, judgement, { http, nowMs, queries, traceId }));
          const filledIn = {
            decisionId: '9f1b7c52-0c2f-4f0e-8c39-2f6f7a1f5d11',
            http,
            nowMs,
            latencyUs,
            traceId,
          };
          expect(forms.find(ENCOUNTER, verdict).textOf(filledIn)).toBe(built);
        }
      }
  });

  test('stands for callers without identity too', () => {
    const stranger = { ...ENCOUNTER, caller: { ...ENCOUNTER.caller, spiffeId: null } };
    const http = requestFor('GET', '/');
    const verdict = verdictOf('policy_allow');
    const filledIn = { decisionId: 'id', http, nowMs: 5, latencyUs: verdict.latencyUs };
    expect(forms.find(stranger, verdict).textOf(filledIn)).toBe(
      encodeRecord(
        buildRecord(stranger, { decisionId: 'id', verdict }, { http, nowMs: 5, queries: 'names' }),
      ),
    );
  });
});

describe('RecordForms.find()', () => {
  test('gives the same form for the same verdict, and another one for another', () => {
    const allowed = verdictOf('policy_allow');
    const form = forms.find(ENCOUNTER, allowed);
    expect(forms.find(ENCOUNTER, { ...allowed, latencyUs: 99 })).toBe(form);
    expect(forms.find({ ...ENCOUNTER }, allowed)).not.toBe(form);
    for (const other of [
      AUDITED,
      { ...allowed, message: 'because' },
      { ...allowed, policyVersion: 8 },
      { ...allowed, userId: 'corp:alice' },
    ])
      expect(forms.find(ENCOUNTER, other)).not.toBe(form);
  });

  test('counts what metrics count of such a record', () => {
    counted.length = 0;
    forms.find(ENCOUNTER, AUDITED).count(7);
    expect(counted).toMatchObject([
      { direction: 'inbound', decision: 'allow', would_deny: true, reason: 'policy_deny', latency_us: 7 },
    ]);
  });
});
