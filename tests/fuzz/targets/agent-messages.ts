import type { z } from 'zod';
import { readCsr } from '../../../server/ca/csr.ts';
import { parseJson, validate } from '../../../server/http/body.ts';
import { attestRequest, challengeResponse, renewRequest } from '../../../shared/protocol/attestation.ts';
import { accessRecord, auditBatch } from '../../../shared/protocol/audit.ts';
import { errorOfProblem, problemOf } from '../../../shared/protocol/problem.ts';
import { newEntry } from '../../../shared/protocol/registration.ts';
import { signRequest } from '../../../shared/protocol/signing.ts';
import { agentStatus } from '../../../shared/protocol/sync.ts';
import { parseTpmPublic } from '../../../shared/wire/tpm2-public.ts';
import { testAccessRecord } from '../../kit/audit-batches.ts';
import { JSON_WORDS } from '../json-words.ts';
import { SEEDS } from '../seeds.ts';
import { attempt, outcomeOfRefusal, requireSame, words, type FuzzTarget } from '../target.ts';

const SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  attestRequest,
  challengeResponse,
  renewRequest,
  signRequest,
  auditBatch,
  accessRecord,
  agentStatus,
  newEntry,
};
const [CSR = ''] = SEEDS.csrs;
const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');
const { tpm } = SEEDS;

/** What agents send: a message that is taken is taken again as it was understood; what stands in it in another form is parsed or refused. */
export const target: FuzzTarget = {
  seeds: words(
    JSON.stringify({
      csr: CSR,
      payload: {
        type: 'tpm',
        ekPublic: base64(tpm.endorsementKeys.eccP256),
        akPublic: base64(tpm.attestationKeys.ecc.public),
      },
      agentVersion: '0.1.0',
      addresses: ['10.0.0.5', 'fd00::5'],
    }),
    JSON.stringify({ csr: CSR, payload: { type: 'join_token', token: 't' }, agentVersion: '0.1.0' }),
    JSON.stringify({
      payload: {
        type: 'tpm',
        secret: 'AAAA',
        quote: base64(tpm.attestationKeys.ecc.quote),
        signature: 'AAAA',
        pcrValues: ['0'.repeat(64)],
      },
    }),
    JSON.stringify({ requests: [{ entryId: '0190a000-0000-7000-8000-000000000001', csr: CSR }] }),
    JSON.stringify({
      epoch: '0'.repeat(32),
      records: [{ sequence: 1, hash: '0'.repeat(64), record: JSON.stringify(testAccessRecord()) }],
    }),
    JSON.stringify(testAccessRecord()),
    JSON.stringify({
      agentVersion: '1',
      cursor: 1,
      policySequence: 1,
      addresses: ['10.0.0.5'],
      listening: [{ spiffeId: 'spiffe://example.org/a', port: 80 }],
    }),
    JSON.stringify({
      spiffeId: 'spiffe://example.org/a',
      parentId: 'spiffe://example.org/b',
      selectors: ['unix:uid:1'],
      dnsNames: ['a.b'],
      listeners: [{ port: 1 }],
    }),
  ),
  dictionary: [
    ...JSON_WORDS,
    ...words(
      '"csr":"',
      '"records":[',
      '"type":"tpm"',
      '"::ffff:1.2.3.4"',
      '"fe80::1%eth0"',
      '=',
      'spiffe://',
      '2026-02-30T25:00:00Z',
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
  if (refusal !== undefined) {
    requireSame(
      errorOfProblem(JSON.parse(JSON.stringify(problemOf(refusal))), 400).reason,
      refusal.reason,
      'a refusal on the wire',
    );
    return outcomeOfRefusal(refusal).slice(0, 40);
  }
  requireSame(validate(schema, JSON.parse(JSON.stringify(message)), 'body'), message, `${name} taken again`);
  return `${name} ${insideOf(message)}`;
}

/** Parses the texts and bytes inside of a message as the server does later. */
function insideOf(message: unknown): string {
  const { csr, payload, records } = message as {
    readonly csr?: string;
    readonly payload?: { readonly akPublic?: string };
    readonly records?: readonly { readonly record: string }[];
  };
  const ways: string[] = [];
  const note = (parse: () => unknown): void => {
    const { refusal } = attempt(parse);
    ways.push(refusal === undefined ? 'read' : outcomeOfRefusal(refusal));
  };
  if (csr !== undefined) note(() => readCsr(Buffer.from(csr, 'base64')));
  const akPublic = payload?.akPublic;
  if (akPublic !== undefined) note(() => parseTpmPublic(Buffer.from(akPublic, 'base64')));
  for (const { record } of records?.slice(0, 3) ?? [])
    note(() => validate(accessRecord, parseJson(Buffer.from(record)), 'body'));
  return ways.join();
}
