import { createAuthorizer } from '../../../agent/policy/authorize.ts';
import { loadPolicy } from '../../../agent/policy/loaded-policy.ts';
import type { DecisionRequest } from '../../../shared/policy/decision.ts';
import { createOpaWasmLoader } from '../../../shared/policy/opa-wasm.ts';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { WatchedValue } from '../../../shared/runtime/watched-value.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { parseTrustDomain } from '../../../shared/spiffe/trust-domain.ts';
import { buildPolicy } from '../../kit/build-policy.ts';
import { silentLog } from '../../kit/datastore.ts';
import type { Benchmark, BenchRun } from '../bench-run.ts';
import { rowOfOne } from '../compare.ts';
import { quantile, type Row, type Table } from '../measure.ts';
import { GRANTS, grantsOf, rulesFor, SMALL } from '../policies/large.ts';

const name = 'decision';
const title = 'A decision, from the request to the verdict, nothing cached';
const DECISIONS = 20_000;

const POLICIES: readonly {
  readonly name: string;
  readonly rego: () => string;
  readonly data?: unknown;
  readonly boundUs?: number;
}[] = [
  { name: 'small', rego: () => SMALL, boundUs: 20 },
  { name: '150 lines', rego: () => rulesFor(30) },
  { name: '10,000 grants as data', rego: () => GRANTS, data: grantsOf(10_000) },
  { name: '10,000 rules', rego: () => rulesFor(10_000) },
];

/** Each policy on requests that differ from one another. */
export const decision: Benchmark = { name, title, isQuick: true, measure };

async function measure(run: BenchRun): Promise<Table> {
  const rows: Row[] = [];
  for (const policy of POLICIES) {
    run.progress(`${name}, ${policy.name}`);
    const tookUs = await decide(
      buildPolicy({ rego: policy.rego(), ...('data' in policy ? { data: policy.data } : {}) }),
    );
    const bound = policy.boundUs === undefined ? {} : { bound: policy.boundUs };
    rows.push(
      rowOfOne({ name: `${policy.name}, p50`, unit: 'us', better: 'less', ...bound }, quantile(tookUs, 0.5)),
    );
    rows.push(rowOfOne({ name: `${policy.name}, p99`, unit: 'us', better: 'less' }, quantile(tookUs, 0.99)));
  }
  return { name, title, rows };
}

async function decide(artifact: Uint8Array): Promise<readonly number[]> {
  const nowMs = systemClock.nowMs();
  const statement = {
    trustDomain: parseTrustDomain('example.org'),
    target: 'mesh' as const,
    sequence: 1,
    version: 1,
    digest: '',
    entrypoints: { allow: 'picket/authz/allow' },
    issuedAt: new Date(nowMs).toISOString(),
  };
  const loaded = await loadPolicy(createOpaWasmLoader(), { statement, artifact }, nowMs);
  const policy = new WatchedValue<typeof loaded | undefined>(loaded);
  const authorizer = createAuthorizer({ policy, clock: systemClock, log: silentLog });
  const tookUs: number[] = [];
  const endMs = performance.now() + 10_000;
  for (let i = 0; i < DECISIONS && performance.now() < endMs; i++) {
    const request = requestOf(i);
    const startedMs = performance.now();
    const { isAllowed } = authorizer.authorize(request);
    tookUs.push((performance.now() - startedMs) * 1000);
    if (!isAllowed) throw new Error('The policy was expected to allow it');
  }
  return tookUs.slice(tookUs.length / 10);
}

function requestOf(number: number): DecisionRequest {
  return {
    decisionId: crypto.randomUUID(),
    caller: {
      spiffeId: parseSpiffeId('spiffe://example.org/web'),
      address: '10.0.0.1',
      port: 30_000 + (number % 20_000),
      certificateNotAfterMs: Date.now() + 3_600_000,
    },
    target: { spiffeId: parseSpiffeId('spiffe://example.org/invoices'), address: '10.0.0.2', port: 80 },
    http: {
      method: 'GET',
      path: `/invoices/${number}?page=${number % 7}`,
      host: 'invoices.example.org',
      headers: { accept: '*/*', 'user-agent': 'bench/1', 'x-request-id': String(number) },
    },
  };
}
