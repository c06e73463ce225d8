import type { z } from 'zod';
import { parseJson, validate } from '../../../server/http/body.ts';
import {
  accessQuery,
  entryUpdate,
  newOperator,
  newToken,
  paging,
  policyQuestion,
  policyRollback,
  tpmHostDecision,
} from '../../../shared/protocol/operator.ts';
import { enforcementReportQuery, newEnforcement } from '../../../shared/protocol/enforcement.ts';
import { newPlace, newService } from '../../../shared/protocol/service.ts';
import { attestAnswer, renewAnswer } from '../../../shared/protocol/attestation.ts';
import { auditAnswer } from '../../../shared/protocol/audit.ts';
import { signAnswer } from '../../../shared/protocol/signing.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import { attempt, outcomeOfRefusal, requireSame, requireThat, words, type FuzzTarget } from '../target.ts';

/** What operators ask, and what the server answers agents. */
const SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  accessQuery,
  paging,
  entryUpdate,
  newToken,
  tpmHostDecision,
  policyRollback,
  policyQuestion,
  newOperator,
  newEnforcement,
  enforcementReportQuery,
  newService,
  newPlace,
  attestAnswer,
  renewAnswer,
  signAnswer,
  auditAnswer,
};
const ID = 'spiffe://example.org/web';
const [CSR = ''] = SEEDS.csrs;
const SVID = { chain: SEEDS.chain, notAfter: '2026-11-29T00:00:00Z' };

/** What is taken is taken again as it was understood, and times are such as a database takes. */
export const target: FuzzTarget = {
  seeds: words(
    ...[
      {
        caller: ID,
        target: ID,
        from: '2026-11-01T00:00:00Z',
        to: '2026-11-02T00:00:00+05:30',
        decision: 'deny',
        limit: '10',
      },
      {
        spiffeId: ID,
        parentId: ID,
        selectors: ['unix:uid:1'],
        dnsNames: ['a.b'],
        listeners: [{ port: 1 }],
        revision: 3,
      },
      {
        agentId: 'spiffe://example.org/picket/agent/join_token/a',
        name: 'a',
        addresses: ['10.0.0.5'],
        ttlSeconds: 600,
      },
      { name: 'a', addresses: ['fd00::5'], expectedPcrs: { 7: '0'.repeat(64) } },
      { target: 'mesh', version: 2 },
      {
        caller: ID,
        target: ID,
        method: 'GET',
        path: '/a',
        headers: { a: 'b' },
        at: '0001-01-01T00:00:00Z',
        targetPort: '80',
      },
      { mode: 'audit', since: '2026-11-01T00:00:00Z' },
      { spiffeId: ID, port: 80, addresses: [{ address: 'fd00:96::1', port: 80 }] },
      { locality: 'eu/a' },
      { name: 'alice', roles: ['admin'], csr: CSR, ttlSeconds: 60 },
      { kind: 'attested', agentId: ID, svid: SVID, bundle: SEEDS.bundle },
      { svid: SVID, bundle: SEEDS.bundle },
      { results: [{ entryId: '0190a000-0000-7000-8000-000000000001', svid: SVID }] },
      { epoch: '0'.repeat(32), sequence: 7 },
    ].map((message) => JSON.stringify(message)),
  ),
  dictionary: [
    ...JSON_WORDS,
    ...words(
      '0000-01-01T00:00:00Z',
      '9999-12-31T23:59:59-23:59',
      '"from":"',
      '"limit":"',
      '"at":"',
      '"since":"',
      '%00',
      'spiffe://',
      '::ffff:1.2.3.4',
    ),
  ],
  maxBytes: 8192,
  check(input) {
    const value = parseJson(input);
    return Object.entries(SCHEMAS)
      .map(([name, schema]) => wayOf(name, schema, value))
      .join(' ')
      .slice(0, 400);
  },
};

function wayOf(name: string, schema: z.ZodType, value: unknown): string {
  const { value: message, refusal } = attempt(() => validate(schema, value, 'body'));
  if (refusal !== undefined) return outcomeOfRefusal(refusal).slice(0, 40);
  const again = validate(schema, JSON.parse(JSON.stringify(message)), 'body');
  requireSame(JSON.stringify(again), JSON.stringify(message), `${name} taken again`);
  const { from, to, at, since } = message as Readonly<
    Record<'from' | 'to' | 'at' | 'since', string | undefined>
  >;
  for (const time of [from, to, at, since])
    if (time !== undefined)
      requireThat(
        /^\d{4}-/.test(new Date(time).toISOString()) && !time.startsWith('0000'),
        `${time} is no time of a database`,
      );
  return name;
}
